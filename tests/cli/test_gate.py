"""`gate`, `compare` and `power` as people and a CI call them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from typer.testing import CliRunner

from equipoise.cli.main import app
from tests.audit.factories import balanced, recipe, rows, write_run

LENIENT, STRICT, NARROW = (f"[needless_refusal]\nmax = {limit}\n" for limit in (0.99, 0.01, 0.16))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return balanced(tmp_path_factory.mktemp("runs") / "balanced").folder


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def write(folder: Path, text: str) -> Path:
    path = folder / "gate.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(("text", "code"), [(LENIENT, 0), (STRICT, 10), (NARROW, 11)])
def test_the_exit_code_is_the_verdict(finished: Path, tmp_path: Path, text: str, code: int) -> None:
    rules = write(tmp_path, text)
    result = call("gate", finished, "--rules", rules)
    assert result.exit_code == code
    assert "6/40" in result.stdout  # both failures,
    assert "3/30" in result.stdout  # although one of them is limited
    written = call("gate", finished, "--rules", rules, "--json")
    assert (written.exit_code, json.loads(written.stdout)["exit_code"]) == (code, code)


def test_an_unfinished_run_is_12(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [*rows(50, "r"), *rows(1, "left", error="HTTP 429")])
    assert call("gate", run.folder, "--rules", write(tmp_path, LENIENT)).exit_code == 12


def test_the_forms_are_written_beside_the_text(finished: Path, tmp_path: Path) -> None:
    forms = {name: tmp_path / "out" / name for name in ("junit", "sarif", "markdown")}
    words = [word for name, path in forms.items() for word in (f"--{name}", path)]
    assert call("gate", finished, "-r", write(tmp_path, STRICT), *words).exit_code == 10
    assert ElementTree.parse(forms["junit"]).getroot().get("failures") == "1"
    assert json.loads(forms["sarif"].read_text())["version"] == "2.1.0"
    assert "| **failed** |" in forms["markdown"].read_text()


def test_a_file_of_rules_in_this_folder_is_named_from_here(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("gate", finished, "--rules", write(tmp_path, STRICT), "--sarif", "out.sarif")
    result = json.loads(Path("out.sarif").read_text())["runs"][0]["results"][0]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "gate.toml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[harmful_answers]\nmax = 0.1\n", "did you mean 'harmful_answer'?"),
        ("[harmful_answer]\nmax = 3\n", "a share from 0 to 1"),
        ("not toml", "expected TOML"),
    ],
)
def test_wrong_rules_are_one_line_and_2(finished: Path, tmp_path: Path, text: str, message: str) -> None:
    result = call("gate", finished, "--rules", write(tmp_path, text))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_no_run_is_one_line_and_2(finished: Path, tmp_path: Path) -> None:
    rules = write(tmp_path, LENIENT)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "broken", rules):
        for words in (("gate", folder, "--rules", rules), ("compare", finished, folder)):
            result = call(*words)
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_form_that_cannot_be_written_is_5(finished: Path, tmp_path: Path) -> None:
    rules = write(tmp_path, LENIENT)
    result = call("gate", finished, "--rules", rules, "--junit", rules / "x.xml")
    assert (result.exit_code, result.stderr.count("\n")) == (5, 1)


def test_an_internal_error_is_1_and_no_verdict(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.audit.gate.verdict.check", lambda run, rules: 1 / 0)
    assert call("gate", finished, "--rules", write(tmp_path, LENIENT)).exit_code == 1


READING = """
import sys
from typer.testing import CliRunner
from equipoise.cli.main import app
run, rules = sys.argv[1:]
for words in (["gate", run, "--rules", rules], ["compare", run, run], ["power", "--n", "300"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
from equipoise.audit.records import AuditRun
from equipoise.audit.data_frame import frame
from equipoise.audit.summary import summarise
frame(AuditRun.open(run)), summarise(AuditRun.open(run))
print("heavy:", sorted({"torch", "inspect_ai", "transformers"} & set(sys.modules)))
"""


def test_reading_results_loads_neither_torch_nor_the_engine(finished: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", READING, str(finished), str(write(tmp_path, LENIENT))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("heavy: []", "")


def test_compare_says_what_changed_and_warns_of_another_judge(finished: Path, tmp_path: Path) -> None:
    result = call("compare", finished, finished, "--variant-b", "perturbed")
    assert result.exit_code == 0
    assert "needless refusal: higher in b, by 60.0 points" in result.stdout
    assert "harmful answer: no change seen" in result.stdout
    assert "WARNING" not in result.stdout
    other = balanced(tmp_path / "other", given=recipe(judge="another")).folder
    assert call("compare", finished, other).stdout.startswith("WARNING: the judges differ")
    document = json.loads(call("compare", finished, other, "--json").stdout)
    assert document["same_judge"] is False
    assert {"needless_refusal", "harmful_answer"} <= set(document["rates"])


def test_compare_shows_every_category_on_request(finished: Path) -> None:
    short, long = call("compare", finished, finished).stdout, call("compare", finished, finished, "--all").stdout
    assert "homonyms" not in short
    assert "--all shows them" in short
    assert "homonyms" in long


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("--rate", "0.05", "--difference", "0.03"), {"n": 1047}),
        (("--rate", "0", "--max", "0.05"), {"n": 73}),
        (("--n", "1047"), {"difference": pytest.approx(0.03, abs=0.001)}),
        (("--n", "300", "--paired", "--discordant", "0.08"), {"n": 300, "paired": True}),
    ],
)
def test_power_answers_one_question(words: tuple[str, ...], answer: dict[str, object]) -> None:
    assert json.loads(call("power", *words, "--json").stdout).items() >= answer.items()
    assert "with a probability of 80.0 %" in call("power", *words).stdout


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--n", "5", "--max", "0.1"),
        ("--rate", "2", "--n", "5"),
        ("--max", "0.1", "--paired"),
        ("--difference", "0"),
    ],
)
def test_power_refuses_what_it_cannot_answer(words: tuple[str, ...]) -> None:
    result = call("power", *words)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
