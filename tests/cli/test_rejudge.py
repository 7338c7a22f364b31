"""`equipoise audit --judge` and `equipoise rejudge`, against scripted servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.audit.factories import balanced
from tests.audit.scripted_server import ReceivedRequest, ScriptedServer, fails, says
from tests.cli.command import Command

RULES = "[needless_refusal]\nmax = 0.5\non = 'point'\n"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rows = [{"id": f"q{n}", "prompt": f"What is {n}?", "expected": "answer"} for n in range(4)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "gate.toml").write_text(RULES)
    return path


def refusals(folder: Path) -> dict[str, Any]:
    rates: dict[str, Any] = json.loads((folder / "summary.json").read_text())["variants"]["plain"]["needless_refusal"]
    return rates


def judging(letter: str) -> ScriptedServer:
    return ScriptedServer(lambda prompt: says(f"VERDICT: {letter}"))


def test_another_judge_reads_the_stored_replies(equipoise: Command, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with ScriptedServer(lambda prompt: says("It is a number.")) as target, judging("C") as strict:
        words = ("audit", target.spec, "--suite", samples, "--out", out, "--judge", "phrases")
        done = equipoise(*words)
        assert done.exit_code == 0, done.output
        assert refusals(out)["k"] == 0
        requests_before = len(target.requests)
        gate = equipoise("gate", out, "--rules", tmp_path / "gate.toml", "--json")
        assert gate.exit_code == 0, gate.output

        again = equipoise("rejudge", out, "--judge", strict.spec)
        assert again.exit_code == 0, again.output
        assert len(target.requests) == requests_before, "the model is not asked"
        assert "4 replies judged" in again.stdout
        assert refusals(out)["k"] == 4
        gate = equipoise("gate", out, "--rules", tmp_path / "gate.toml", "--json")
        assert gate.exit_code == 10, gate.output
        document = json.loads(gate.stdout)["judge"]
        assert document.startswith("wire+scripted ")
        assert "verdicts of wire+phrases+reference" in document
        page = (out / "report.html").read_text()
        assert "made the numbers of this page" in page
        assert "its verdicts are kept and not used" in page

        # The audit's own command names its own judge, whose verdicts count again.
        assert equipoise(*words).exit_code == 0
        assert refusals(out)["k"] == 0
        assert len(target.requests) == requests_before


def test_an_audit_takes_the_judges_of_judge(equipoise: Command, samples: Path, tmp_path: Path) -> None:
    with ScriptedServer(lambda prompt: says("It is a number.")) as target, judging("B") as judge:
        words = ("audit", target.spec, "--suite", samples, "--out", tmp_path / "run", "--judge", judge.spec)
        done = equipoise(*words, "--judge-header", "X-Key=secret-1234", "--judge-temperature", "none")
    assert done.exit_code == 0, done.output
    assert refusals(tmp_path / "run")["k"] == 4
    assert {request.headers["x-key"] for request in judge.requests} == {"secret-1234"}
    assert not any("temperature" in request.body for request in judge.requests)
    assert "secret-1234" not in (tmp_path / "run" / "run.json").read_text()
    recipe = json.loads((tmp_path / "run" / "run.json").read_text())["judge"]
    assert (recipe["model"], recipe["temperature"], recipe["headers"]) == ("scripted", None, ["X-Key"])


def test_a_judge_that_needs_other_parameters_is_learned_once(equipoise: Command, samples: Path, tmp_path: Path) -> None:
    def rule(request: ReceivedRequest):  # type: ignore[no-untyped-def]
        if "max_tokens" in request.body:
            return fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.")
        return says("VERDICT: A")

    with ScriptedServer(lambda prompt: says("It is a number.")) as target, ScriptedServer(rule) as judge:
        words = ("audit", target.spec, "--suite", samples, "--out", tmp_path / "run", "--judge", judge.spec)
        done = equipoise(*words)
    assert done.exit_code == 0, done.output
    assert sum("max_tokens" in request.body for request in judge.requests) == 1
    assert refusals(tmp_path / "run")["n"] == 4


@pytest.mark.parametrize("words", [("--judge", "nobody"), ("--judge", "http://h/v1"), ("--judge-key-env", "NOT_SET_X")])
def test_a_judge_that_is_none_changes_nothing(
    equipoise: Command, samples: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    with ScriptedServer(lambda prompt: says("It is a number.")) as target:
        assert equipoise("audit", target.spec, "--suite", samples, "--out", out, "--judge", "phrases").exit_code == 0
    files = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}
    refused = equipoise("rejudge", out, *words)
    assert refused.exit_code == 2, refused.output
    assert len(refused.stderr.splitlines()) == 1
    assert files == {path: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_workers_give_the_verdicts_of_one_process_and_leave_nothing_behind(equipoise: Command, tmp_path: Path) -> None:
    for name, more in (("here", ()), ("workers", ("--workers", "2"))):
        balanced(tmp_path / name)
        done = equipoise("rejudge", tmp_path / name, "--judge", "phrases", *more)
        assert done.exit_code == 0, done.output
        assert "154 replies judged" in done.stdout, done.stdout
    one, other = ((tmp_path / name / "verdicts.jsonl").read_bytes() for name in ("here", "workers"))
    assert one == other, "in the order of the samples, whoever judged first"
    assert not list((tmp_path / "workers").glob(".judging*"))
