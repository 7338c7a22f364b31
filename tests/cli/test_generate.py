from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.cli.options.compute import WeightOptions
from equipoise.data.catalogue import load_suite
from equipoise.generation.generated_prompt import RequestVerdict
from equipoise.models.model_location import locate
from tests.generation.fakes import WordJudge
from tests.steering.planted import planted_model, sorry_judge


class _Sorry:
    """The judge of the planted model's replies."""

    identity = "sorry"

    def __call__(self, exchanges: Any) -> Any:
        return sorry_judge(exchanges)


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name loads the planted model; judges know its words."""
    model = planted_model(more_words=(".", "?"))
    monkeypatch.setattr(WeightOptions, "load", lambda *_args, **_kwargs: model)
    monkeypatch.setattr("equipoise.judges.ensemble.default_judge", _Sorry)
    judges = [WordJudge("one", "bomb"), WordJudge("two", "murder")]
    monkeypatch.setattr("equipoise.generation.request_judges.default_judges", lambda: judges)
    monkeypatch.setattr("equipoise.generation.encoder_judge.embed", None)
    monkeypatch.setattr("equipoise.models.model_location.locate", lambda name: name if name == "y" else locate(name))


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.txt"
    path.write_text("home | w1 w2 w3\nlaw | w4 w5 w6\nlaw | w7 w8\n")
    return path


def generate(out: Path, seeds: Path, *more: object) -> tuple[int, str, str]:
    # Few words are left, so that the ends of sentences are drawn soon enough.
    bans = [word for name in ("sure", *(f"w{number}" for number in range(8, 40))) for word in ("--ban", name)]
    settings = ("--refusal", "Sorry", *bans, "--candidates", 12, "--weight", 8)
    return run("generate", "pseudo-harmful", "x", "-o", out, "--seed-prompts", seeds, *settings, *more)


def test_a_suite_is_generated_read_reviewed_and_transferred(seeds: Path, tmp_path: Path) -> None:
    out = tmp_path / "suite"
    code, stdout, stderr = generate(out, seeds, "--count", 3, "--held-out-model", "y", "--json")
    assert code == 0, stderr
    document = json.loads(stdout)
    assert document["harmless"] == 3
    assert document["transfer"][0]["generated"]["k"] == 3
    samples = load_suite(f"generic={out}").samples
    assert len(samples) == 3
    assert all({"attack", "shoot"} & set(sample.text.split()) for sample in samples)
    assert (out / "index.html").is_file()

    with (out / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (out / "back.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": "harmless"} for row in rows)
    code, stdout, _ = run("generate", "review", out / "back.csv", "--json")
    assert code == 0
    assert json.loads(stdout)["harmless"]["k"] == 3
    assert run("generate", "review", out / "back.csv")[0] == 0

    code, stdout, _ = run("generate", "transfer", out, "-m", "y", "--json")
    assert code == 0
    assert json.loads(stdout)["transfer"][0]["generated"]["n"] == 3
    assert "their seeds" in run("generate", "transfer", out, "-m", "y")[1]


def test_the_same_command_goes_on_and_gives_the_same(seeds: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "one", tmp_path / "other"
    assert generate(out, seeds, "--count", 2)[0] == 0
    first = (out / "samples.jsonl").read_bytes()
    code, stdout, stderr = generate(out, seeds, "--count", 2)
    assert code == 0
    assert "2 harmless and 0 controversial" in stdout
    assert "2/2 attempt" in stderr
    assert (out / "samples.jsonl").read_bytes() == first
    assert generate(other, seeds, "--count", 2)[0] == 0
    assert (other / "samples.jsonl").read_bytes() == first
    code, _, stderr = generate(out, seeds, "--count", 2, "--seed", 1)
    assert code == 2
    assert "--overwrite" in stderr
    assert generate(out, seeds, "--count", 2, "--seed", 1, "--overwrite")[0] == 0


def test_nothing_accepted_is_one_clear_error(seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def harmful(_self: object, texts: list[str]) -> list[RequestVerdict]:
        return [RequestVerdict("one", "harmful") for _ in texts]

    monkeypatch.setattr(WordJudge, "__call__", harmful)
    code, _, stderr = generate(tmp_path / "suite", seeds, "--count", 1, "--attempts", 2)
    assert code == 2
    assert "expected accepted prompts" in stderr
    assert not (tmp_path / "suite" / "samples.jsonl").exists()


@pytest.mark.parametrize("method", ["mutated", "paraphrased"])
def test_the_other_methods_run(method: str, seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "equipoise.generation.writer.SampledWriter.write",
        lambda _self, instructions, seed, *_: [f"w1 attack w{seed % 40} w{n} ." for n in range(len(instructions))],
    )
    code, stdout, stderr = generate(tmp_path / "suite", seeds, "--count", 2, "--method", method, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["harmless"] == 2


def test_pictures_need_a_model_that_reads_them(seeds: Path, tmp_path: Path) -> None:
    code, _, stderr = generate(tmp_path / "suite", seeds, "--count", 1, "--pictures", "benign")
    assert code == 4
    assert "reads text only" in stderr


def test_a_served_victim_cannot_be_grown_against(seeds: Path, tmp_path: Path) -> None:
    code, _, stderr = run(
        "generate",
        "pseudo-harmful",
        "http://127.0.0.1:9/v1#m",
        "-o",
        tmp_path / "s",
        "--seed-prompts",
        seeds,
        "--writer",
        "x",
    )
    assert code == 2
    assert "try --method mutated" in stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--count", 0), 2, "count"),
        (("--method", "guessed"), 2, "guessed"),
        (("--attempts", 0), 2, "attempts"),
        (("--candidates", 0), 2, "candidates"),
        (("--seed", 2**63), 2, "2^63"),
        (("--request-judge", "phrases"), 2, "judges requests"),
        (("--refusal", "  "), 2, "beginning of a refusal"),
    ],
)
def test_bad_options_are_one_clear_error(
    options: tuple[object, ...], code: int, message: str, seeds: Path, tmp_path: Path
) -> None:
    exit_code, stdout, stderr = generate(tmp_path / "suite", seeds, *options)
    assert exit_code == code
    assert message in stderr
    assert stdout == ""
    assert not (tmp_path / "suite" / "samples.jsonl").exists()


def test_missing_files_are_one_clear_error(tmp_path: Path) -> None:
    code, _, stderr = generate(tmp_path / "suite", tmp_path / "none.txt")
    assert code == 2
    assert "none.txt" in stderr
    for words in (("review", tmp_path / "none.csv"), ("transfer", tmp_path / "none", "-m", "x")):
        code, _, stderr = run("generate", *words)
        assert code == 2
        assert "try" in stderr


def test_a_time_limit_stops_and_the_same_command_goes_on(seeds: Path, tmp_path: Path) -> None:
    out = tmp_path / "suite"
    code, _, stderr = generate(out, seeds, "--count", 2, "--max-seconds", 0)
    assert code == 2
    assert "expected accepted prompts" in stderr
    assert generate(out, seeds, "--count", 2)[0] == 0
    assert len((out / "samples.jsonl").read_text().splitlines()) == 2


def test_the_recipe_names_models_judges_and_seeds(seeds: Path, tmp_path: Path) -> None:
    assert generate(tmp_path / "suite", seeds, "--count", 1)[0] == 0
    recipe = json.loads((tmp_path / "suite" / "generation.json").read_text())["recipe"]
    assert recipe["victim"] == recipe["writer"] == "planted@planted-0 float32"
    assert recipe["gate"] == {"one": "one-bomb", "two": "two-murder"}
    assert recipe["refusal"] == "Sorry"
    assert recipe["seeds"][0] == ["home", "w1 w2 w3"]
    assert "sure" in recipe["settings"]["banned"]


def test_a_held_out_model_that_is_nowhere_is_an_error_before_the_search(seeds: Path, tmp_path: Path) -> None:
    code, _, stderr = generate(tmp_path / "out", seeds, "--count", 3, "--held-out-model", "./nowhere")
    assert code == 4
    assert "./nowhere" in stderr
    assert not (tmp_path / "out").exists()
