"""`equipoise prompt`: select, optimise, apply and show, on a planted model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.cli.options.compute import WeightOptions
from equipoise.prompts.soft_prompt import SoftPrompt
from tests.steering.planted import planted_model, prompts, sorry_judge

TEXT = "w30 w31 shoot w32 w33 w34"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every name loads the planted model, and a reply of `Sorry` is a refusal; a folder with what commands need."""
    model = planted_model()
    monkeypatch.setattr(WeightOptions, "load", lambda *_args, **_kwargs: model)
    judge = lambda _self, exchanges: sorry_judge(exchanges)  # noqa: E731
    monkeypatch.setattr("equipoise.judges.phrases.PhraseJudge.__call__", judge)
    monkeypatch.setattr("equipoise.judges.ensemble.Ensemble.__call__", judge)
    (tmp_path / "start.toml").write_text(f'[[steps]]\nkind = "system"\ntext = "{TEXT}"\n')
    for name, words in {"harmful": ("attack",), "harmless": (), "pseudo-harmful": ("shoot",)}.items():
        lines = [prompt.text for prompt in prompts(name, 10, *words).prompts]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    with (tmp_path / "suite.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "expected", "category"])
        for kind in ("one", "two"):
            for expected, word in (("answer", "shoot"), ("refuse", "attack")):
                for prompt in prompts(f"{kind}{expected}", 6, word).prompts:
                    table.writerow([prompt.text, expected, kind])
    return tmp_path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.stdout, result.stderr


def optimise(folder: Path, *more: object) -> tuple[int, str, str]:
    files = [
        word for name in ("harmful", "harmless", "pseudo-harmful") for word in (f"--{name}", folder / f"{name}.txt")
    ]
    settings = ["--text", folder / "start.toml", "--epochs", 1, "--components", 2, "--reply-tokens", 2]
    return run("prompt", "optimise", "-m", "x", "--out", folder / "soft", *files, *settings, *more)


def test_a_soft_prompt_is_made_shown_and_applied(planted: Path) -> None:
    code, out, err = optimise(planted, "--seed", 0, "--seed", 3, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [row["seed"] for row in document["runs"]] == [0, 3]
    file = Path(document["runs"][0]["file"])
    assert SoftPrompt.load(file).text == TEXT
    assert (planted / "soft" / "optimise.json").is_file()

    code, out, err = run("prompt", "show", file, "-m", "x", "--json")
    assert code == 0, err
    shown = json.loads(out)
    assert len(shown["nearest_tokens"]) == shown["tokens"]
    assert shown["details"]["anchors"] == {"harmful": 10, "harmless": 10, "pseudo-harmful": 10}

    code, out, err = run("prompt", "apply", file, "w1 w2 attack", "-m", "x", "--json")
    assert code == 0, err
    (row,) = json.loads(out)["rows"]
    assert row["plain_refused"] is True


def test_plain_anchors_leave_out_the_third_kind(planted: Path) -> None:
    code, _, err = optimise(planted, "--seed", 0, "--plain-anchors", "--count", 8)
    assert code == 0, err
    details = SoftPrompt.load(planted / "soft" / "soft-0.safetensors").details
    assert details["anchors"] == {"harmful": 8, "harmless": 8}


def test_select_chooses_on_some_types_and_reports_on_the_others(planted: Path) -> None:
    words = ["prompt", "select", "-m", "x", "--suite", planted / "suite.csv", "--held-out-types", "two"]
    code, out, err = run(
        *words, "--policy", "contextual", "--policy", planted / "start.toml", "--out", planted / "o", "--json"
    )
    assert code == 0, err
    document = json.loads(out)
    assert document == json.loads((planted / "o" / "select.json").read_text())
    assert document["details"]["held_out"] == ["two"]
    names = [outcome["name"] for outcome in document["test"]["outcomes"]]
    assert names == ["none", "contextual", "start"]
    assert document["test"]["outcomes"][0]["needless"]["n"] == 6
    assert document["test"]["outcomes"][1]["extra_tokens"] > 0
    assert "no harm judge" in document["details"]["harm"]
    code, out, _ = run(*words, "--policy", "contextual", "--out", planted / "o2")
    assert code == 0
    assert "chosen:" in out


def test_select_refuses_a_pool_that_holds_test_rows(planted: Path) -> None:
    held_out = prompts("twoanswer", 6, "shoot").prompts[0].text
    (planted / "pool.jsonl").write_text(json.dumps({"prompt": held_out, "reply": "Sure"}))
    file = planted / "leak.toml"
    file.write_text('[[steps]]\nkind = "few_shot"\nk = 1\nrefusals = 0\npool = "pool.jsonl"\n')
    words = [
        "prompt",
        "select",
        "-m",
        "x",
        "--suite",
        planted / "suite.csv",
        "--held-out-types",
        "two",
        "--out",
        planted,
    ]
    code, _, err = run(*words, "--policy", file)
    assert code != 0
    assert "apart from the test split" in err


def test_show_prints_a_file_that_can_be_used_again(planted: Path) -> None:
    code, out, _ = run("prompt", "show", "balanced")
    assert code == 0
    (planted / "mine.toml").write_text(out)
    code, shown, _ = run("prompt", "show", planted / "mine.toml", "--json")
    assert code == 0
    code, own, _ = run("prompt", "show", "balanced", "--json")
    assert json.loads(shown)["revision"] == json.loads(own)["revision"]
    assert run("prompt", "show", planted / "mine.toml")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["prompt", "show", "kind"],
        ["prompt", "show", "missing.safetensors"],
        ["prompt", "apply", "missing.toml", "x", "-m", "x"],
        ["prompt", "optimise", "-m", "x", "--out", "o", "--text", "few-shot"],
        ["prompt", "select", "-m", "x", "--out", "o", "--suite", "everyday", "--most-rise", "2"],
        ["prompt", "select", "-m", "x", "--out", "o", "--suite", "everyday", "--held-out-types", "none"],
    ],
)
@pytest.mark.usefixtures("planted")
def test_what_cannot_be_is_one_clear_line(words: list[str]) -> None:
    code, _, err = run(*words)
    assert code != 0
    lines = [line for line in err.splitlines() if "expected" in line]
    assert len(lines) == 1
    assert ", got " in err
    assert "Traceback" not in err


def test_a_file_in_the_place_of_the_folder_is_an_error_before_a_model_is_loaded(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WeightOptions, "load", lambda *_args, **_kwargs: pytest.fail("loaded"))
    (planted / "soft").write_text("mine")
    code, _, err = optimise(planted, "--seed", 0)
    assert code == 5
    assert err.startswith("equipoise: expected a folder to write to, got ")
    assert (planted / "soft").read_text() == "mine"
