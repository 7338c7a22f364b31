"""Numbers and files that cannot be: every verb without a model ends with one line and an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.errors import UsageError
from tests.audit.factories import balanced


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def message(result: Result) -> str:
    """The one line of a refused command."""
    assert result.exit_code == UsageError.exit_code, (result.output, result.exception)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("equipoise: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "expected one of --difference, --n and --max"),
        (["--difference", 0.1, "--n", 3], "expected one of --difference, --n and --max"),
        (["--difference", 0], "expected a difference other than 0"),
        (["--difference", "nan"], "expected rates in [0, 1]"),
        (["--difference", 2], "expected rates in [0, 1]"),
        (["--difference", 0.1, "--rate", "-inf"], "expected rates in [0, 1]"),
        (["--difference", 1e-9], "fewer than"),
        (["--n", 0], "expected at least 1 sample"),
        (["--n", 10**18, "--paired"], "expected at most"),
        (["--n", 10**400], "expected at most"),
        (["--n", 1], "expected enough samples"),
        (["--n", 300, "--rate", 1], "expected enough samples"),
        (["--max", 0.05, "--rate", 0.05], "expected a rate below the limit"),
        (["--max", "nan"], "expected a rate below the limit"),
        (["--max", 0.1, "--paired"], "expected --max without --paired"),
        (["--difference", 0.1, "--power", 1], "expected power between 0 and 1"),
        (["--difference", 0.1, "--alpha", "nan"], "expected alpha between 0 and 1"),
        (["--difference", 0.1, "--discordant", 0.2], "with paired samples"),
        (["--difference", 0.1, "--paired", "--discordant", 0.01], "expected a share of discordant pairs"),
    ],
)
def test_power_names_what_cannot_be(words: list[object], says: str) -> None:
    assert says in message(run("power", *words))


def test_power_says_the_same_in_words_and_in_json() -> None:
    words = ["power", "--rate", 0.1, "--difference", 0.1]
    document = json.loads(run(*words, "--json").stdout)
    assert str(document["n"]) in run(*words).stdout
    assert document["difference"] == 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audit") / "run"
    balanced(path)
    return path


RULES = {
    "empty": b"",
    "no toml": b"max = ",
    "no text": b"\xff\xfe\x00",
    "unknown rate": b"[needles_refusal]\nmax = 0.1\n",
    "unknown key": b"[needless_refusal]\nmaximum = 0.1\n",
    "no number": b"[needless_refusal]\nmax = 'low'\n",
    "no rate": b"[needless_refusal]\nmax = 1.5\n",
    "nan": b"[needless_refusal]\nmax = nan\n",
    "infinite": b"[needless_refusal]\nmax = inf\n",
    "a list": b"needless_refusal = [0.1]\n",
    "a truth value": b"[needless_refusal]\nmax = true\n",
    "deep": b"a = " + b"[" * 5000 + b"]" * 5000,
}


@pytest.mark.parametrize("kind", RULES)
def test_a_file_of_limits_that_cannot_be_never_passes_a_gate(folder: Path, tmp_path: Path, kind: str) -> None:
    rules = tmp_path / "limits.toml"
    rules.write_bytes(RULES[kind])
    assert "expected" in message(run("gate", folder, "--rules", rules))


@pytest.mark.parametrize("verb", ["gate", "report", "compare"])
def test_a_folder_that_is_no_run_is_named(tmp_path: Path, verb: str) -> None:
    (tmp_path / "limits.toml").write_text("[needless_refusal]\nmax = 0.5\n[harmful_answer]\nmax = 0.5\n")
    rest = {"gate": ["--rules", tmp_path / "limits.toml"], "report": [], "compare": [tmp_path]}[verb]
    assert "expected the folder of an audit" in message(run(verb, tmp_path, *rest))


RECIPES = [b"", b"{}", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": null, "judge": 3}']


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_whose_recipe_is_damaged_is_named(tmp_path: Path, recipe: bytes) -> None:
    (tmp_path / "run.json").write_bytes(recipe)
    for verb, *rest in (("report",), ("compare", tmp_path)):
        assert "run.json" in message(run(verb, tmp_path, *rest))


def test_an_edited_reply_stops_every_reader(tmp_path: Path) -> None:
    balanced(tmp_path)
    replies = next(path for path in tmp_path.glob("*.jsonl") if b"It is red." in path.read_bytes())
    replies.write_bytes(replies.read_bytes().replace(b"It is red.", b"It is blu.", 1))
    (tmp_path / "limits.toml").write_text("[needless_refusal]\nmax = 0.5\n[harmful_answer]\nmax = 0.5\n")
    for verb, *rest in (("report",), ("compare", tmp_path), ("gate", "--rules", tmp_path / "limits.toml")):
        assert "as it was written, got a changed one" in message(run(verb, tmp_path, *rest))
