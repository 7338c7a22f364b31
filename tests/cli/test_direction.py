from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.cli.options.compute import WeightOptions
from equipoise.steering.direction import Direction
from tests.steering.planted import planted_directions, planted_model, prompts


@pytest.fixture
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name loads the planted model, and a reply of `Sorry` is a refusal."""
    model = planted_model()
    monkeypatch.setattr(WeightOptions, "load", lambda *_args, **_kwargs: model)
    monkeypatch.setattr("equipoise.judges.phrases.PhraseJudge.__call__", _judge)


def _judge(_self, exchanges):
    from tests.steering.planted import sorry_judge

    return sorry_judge(exchanges)


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("prompts")
    sets = {
        "harmful": prompts("harmful", 60, "attack"),
        "harmless": prompts("harmless", 60),
        "pseudo-harmful": prompts("pseudo", 40, "shoot"),
        "contrast-harmful": prompts("contrast", 20, "attack", seed=5),
    }
    paths = {}
    for name, source in sets.items():
        paths[name] = folder / f"{name}.txt"
        paths[name].write_text("\n".join(prompt.text for prompt in source.prompts))
    return paths


def options(files: dict[str, Path], *without: str) -> list[str]:
    return [word for name, path in files.items() if name not in without for word in (f"--{name}", str(path))]


@pytest.mark.usefixtures("_planted")
def test_find_measure_and_apply_work_one_after_the_other(files: dict[str, Path], tmp_path: Path) -> None:
    code, out, _ = run(
        "direction", "find", "-m", "x", "--out", tmp_path / "f", *options(files), "--reply-tokens", 3, "--json"
    )
    assert code == 0, out
    document = json.loads(out)
    assert set(document["files"]) == {"refusal", "surgical", "conditional"}
    found_direction = Direction.load(document["files"]["refusal"])
    harm, _ = planted_directions()
    assert float(torch.nn.functional.cosine_similarity(found_direction.vector, harm, dim=0)) > 0.99
    assert document["self_test"]["reason"] is None
    assert document["condition"]["harmful_steered"] > 0.9
    assert json.loads((tmp_path / "f" / "find.json").read_text()) == document

    code, out, err = run(
        "direction", "measure", document["files"]["refusal"], "-m", "x", "--out", tmp_path / "m",
        *options(files, "contrast-harmful"), "--count", 16, "--coefficient", 1, "--reply-tokens", 3,
    )  # fmt: skip
    assert code == 0, out + err
    assert "random directions are at least as strong" in out
    measured = json.loads((tmp_path / "m" / "measure.json").read_text())
    assert measured["conditions"][1]["rates"]["harmful"]["rate"] == 0
    assert measured["found_with"] == ["harmful", "harmless"]
    assert "<svg" in (tmp_path / "m" / "measure.html").read_text()
    assert "random directions" in err

    code, out, _ = run(
        "direction", "apply", document["files"]["refusal"], "w1 attack w2", "w3 w4", "-m", "x", "--json",
        "--max-new-tokens", 2,
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [(row["plain"], row["steered"]) for row in rows] == [("Sorry", "Sure"), ("Sure", "Sure")]
    code, out, _ = run(
        "direction", "apply", document["files"]["conditional"], "w1 attack w2", "-m", "x", "--mode", "conditional"
    )
    assert code == 0
    assert "conditional (refuses)" in out


@pytest.mark.usefixtures("_planted")
def test_a_second_run_computes_nothing_again_and_another_recipe_is_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    words = ["direction", "find", "-m", "x", "--out", tmp_path, *options(files), "--reply-tokens", 3]
    assert run(*words)[0] == 0
    first = json.loads((tmp_path / "find.json").read_text())
    assert run(*words)[0] == 0
    second = json.loads((tmp_path / "find.json").read_text())
    assert second["candidates"] == first["candidates"]
    assert second["counts"] == first["counts"]
    assert first["counts"]["forward passes"] > first["counts"]["sweep passes"] > 0

    code, _, err = run(*words, "--seed", 1)
    assert code == 2
    assert "another recipe" in err
    assert run(*words, "--seed", 1, "--overwrite")[0] == 0


@pytest.mark.usefixtures("_planted")
def test_no_direction_is_a_result(files: dict[str, Path], tmp_path: Path) -> None:
    words = ["--harmful", files["harmless"], "--harmless", files["harmless"], "--reply-tokens", 3]
    code, out, _ = run("direction", "find", "-m", "x", "--out", tmp_path, *words)
    assert code == 0
    assert "no valid direction: the model refuses 0 of" in out
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.usefixtures("_planted")
def test_wrong_values_are_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    for words, message in (
        (["find", "-m", "x", "--out", tmp_path, "--keep", 0], "--keep in (0, 1]"),
        (["find", "-m", "x", "--out", tmp_path, "--fpr", 1], "--fpr in (0, 1)"),
        (["find", "-m", "x", "--out", tmp_path, "--kl-limit", 0], "--kl-limit above 0"),
        (["find", "-m", "x", "--out", tmp_path, "--kl-limit", "inf"], "--kl-limit above 0"),
        (["find", "-m", "x", "--out", tmp_path, "--kl-limit", "nan"], "--kl-limit above 0"),
        (["measure", tmp_path / "no.safetensors", "-m", "x", "--out", tmp_path], "direction find"),
        (["apply", tmp_path / "no.safetensors", "Hi", "-m", "x", "--mode", "remove"], "--mode ablate"),
    ):
        code, _, err = run("direction", *words)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.usefixtures("_planted")
def test_no_vector_of_a_former_run_stays(files: dict[str, Path], tmp_path: Path) -> None:
    words = ["direction", "find", "-m", "x", "--out", tmp_path, "--reply-tokens", 3]
    assert run(*words, *options(files))[0] == 0
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    none = ["--harmful", files["harmless"], "--harmless", files["harmless"]]
    code, _, err = run(*words, *none)
    assert code == 2
    assert "--overwrite" in err
    assert len(list(tmp_path.glob("*.safetensors"))) == 3, "nothing was replaced"
    assert run(*words, *none, "--overwrite")[0] == 0
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["find.json"]


@pytest.mark.usefixtures("_planted")
def test_vectors_of_a_former_run_are_gone_before_the_new_ones_are_found(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["direction", "find", "-m", "x", "--out", tmp_path, "--reply-tokens", 3, *options(files)]
    assert run(*words)[0] == 0

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("equipoise.steering.find.find_direction", killed)
    assert run(*words, "--seed", 1, "--overwrite")[0] != 0
    assert not list(tmp_path.glob("*.*"))


@pytest.mark.usefixtures("_planted")
@pytest.mark.parametrize("verb", ["find", "measure"])
def test_another_number_format_is_another_recipe(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    words = ["direction", "find", "-m", "x", "--out", tmp_path / "f", "--reply-tokens", 3, *options(files)]
    assert run(*words)[0] == 0
    if verb == "measure":
        sets = options(files, "contrast-harmful")
        words = [
            "direction", "measure", tmp_path / "f" / "refusal.safetensors", "-m", "x", "--out", tmp_path / "m", *sets,
            "--count", 16, "--coefficient", 1, "--reply-tokens", 3,
        ]  # fmt: skip
        assert run(*words)[0] == 0
    other = planted_model()
    other.model.to(torch.bfloat16)
    monkeypatch.setattr(WeightOptions, "load", lambda *_args, **_kwargs: other)
    code, _, err = run(*words)
    assert code == 2
    assert "another recipe" in err


@pytest.mark.usefixtures("_planted")
def test_rows_of_another_label_are_left_out_with_a_word(files: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "pseudo.csv"
    texts = files["pseudo-harmful"].read_text().splitlines()
    labels = ("answer", "borderline", "refuse", "answer")
    lines = [f"{text},{labels[i % 4]}" for i, text in enumerate(texts)]
    table.write_text("\n".join(["prompt,expected", *lines]) + "\n")
    words = [*options(files, "pseudo-harmful"), "--pseudo-harmful", table, "--reply-tokens", 3]
    code, _, err = run("direction", "find", "-m", "x", "--out", tmp_path / "f", *words)
    assert code == 0, err
    assert "20 of 40 rows" in err
    recipe = json.loads((tmp_path / "f" / "find.json").read_text())["recipe"]
    assert recipe["prompts"]["pseudo_harmful"][1] == 20


@pytest.mark.usefixtures("_planted")
def test_another_judge_is_another_recipe(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("direction", "find", "-m", "x", "--out", tmp_path / "f", "--reply-tokens", 3, *options(files))[0] == 0
    words = [
        "direction", "measure", tmp_path / "f" / "refusal.safetensors", "-m", "x", "--out", tmp_path / "m",
        *options(files, "contrast-harmful"), "--count", 16, "--coefficient", 1, "--reply-tokens", 3,
    ]  # fmt: skip
    assert run(*words)[0] == 0
    monkeypatch.setattr("equipoise.judges.phrases.PhraseJudge.identity", "other")
    code, _, err = run(*words)
    assert code == 2
    assert "another recipe" in err


@pytest.mark.usefixtures("_planted")
@pytest.mark.parametrize(("rate", "supported"), [(0.025, False), (0.2, True)])
def test_a_condition_that_cannot_keep_its_promise_says_so(
    files: dict[str, Path], tmp_path: Path, rate: float, supported: bool
) -> None:
    words = ["direction", "find", "-m", "x", "--out", tmp_path, "--reply-tokens", 3, *options(files), "--fpr", rate]
    code, _, err = run(*words)
    assert code == 0
    threshold = json.loads((tmp_path / "find.json").read_text())["condition"]["threshold"]
    assert threshold["supported"] is supported
    assert ("the bound of --fpr 0.025 does not hold" in err) is not supported
    assert ("119 would do" in err) is not supported
