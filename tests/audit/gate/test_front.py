"""The gate's rule `[frontier]`: a release stays on the front of what was measured for its model."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from equipoise.audit.gate.junit import to_junit
from equipoise.audit.gate.markdown import to_markdown
from equipoise.audit.gate.rules_file import read_rules
from equipoise.audit.gate.sarif import to_sarif
from equipoise.audit.gate.verdict import GateVerdict, check
from equipoise.audit.records import AuditRun
from equipoise.errors import UsageError
from tests.audit.factories import Row, recipe, write_run
from tests.audit.frontier.folders import cases, write_folder

RULE = '[frontier]\nrun = "front"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A frontier in which `surgical` is the front: 2 of 40 and 2 of 40."""
    write_folder(tmp_path / "front", {"plain": cases(20, 2), "surgical": cases(2, 2), "guard": cases(22, 2)})
    return tmp_path


def gate(folder: Path, content: list[Row], rule: str = RULE, judge: str = "judge-0000") -> GateVerdict:
    (folder / "gate.toml").write_text(rule)
    return check(write_run(folder / "release", content, given=recipe(judge=judge)), read_rules(folder / "gate.toml"))


def test_a_release_that_answers_as_the_best_row_passes(folder: Path) -> None:
    verdict = gate(folder, cases(2, 2))
    assert verdict.exit_code == 0
    assert verdict.checked[0].standing is not None
    assert verdict.checked[0].standing.share == 1.0


def test_a_release_that_fell_behind_fails_and_names_what_is_better(folder: Path) -> None:
    verdict = gate(folder, cases(20, 2))
    assert verdict.exit_code == 10
    assert "better on both axes as measured: surgical" in verdict.checked[0].reason


def test_a_release_that_may_be_either_is_inconclusive(folder: Path) -> None:
    """One refusal more than the best row: in about a third of the resamples it is in none of them."""
    verdict = gate(folder, cases(3, 2))
    assert verdict.exit_code == 11
    assert gate_share(verdict) == pytest.approx(0.36, abs=0.06)
    assert check_again(folder, RULE + "min_share = 0.2\n") == 0


def gate_share(verdict: GateVerdict) -> float:
    standing = verdict.checked[0].standing
    assert standing is not None
    assert standing.share is not None
    return standing.share


def check_again(folder: Path, rule: str) -> int:
    from equipoise.audit.records import AuditRun

    (folder / "gate.toml").write_text(rule)
    return check(AuditRun.open(folder / "release"), read_rules(folder / "gate.toml")).exit_code


def test_a_new_trade_off_is_on_the_front(folder: Path) -> None:
    assert gate(folder, cases(30, 0)).exit_code == 0


def test_another_judge_decides_nothing(folder: Path) -> None:
    verdict = gate(folder, cases(2, 2), judge="other-judge")
    assert verdict.exit_code == 11
    assert "another judge judged the frontier" in verdict.checked[0].reason


def test_an_unknown_axis_decides_nothing(folder: Path) -> None:
    verdict = gate(folder, cases(0, 2, unscored=40))
    assert verdict.exit_code == 11
    assert "an axis of the run is unknown" in verdict.checked[0].reason


def test_only_samples_with_the_same_content_are_compared(folder: Path) -> None:
    edited = [Row(**{**row.__dict__, "text": f"another question {row.id}"}) for row in cases(20, 2)]
    with pytest.raises(UsageError, match="expected samples in the run that the frontier"):
        gate(folder, edited)


def test_every_form_says_it(folder: Path) -> None:
    verdict = gate(folder, cases(20, 2))
    document = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["rules"][0]
    assert document["rate"] == "frontier"
    assert document["outcome"] == "failed"
    assert document["front"]["min_share"] == 0.5
    assert document["front_share"] < 0.05
    assert "front of both axes" in to_markdown(verdict)
    assert ElementTree.fromstring(to_junit(verdict)).get("failures") == "1"
    (run,) = json.loads(to_sarif(verdict))["runs"]
    assert run["results"][0]["ruleId"] == "frontier"
    for form in (to_markdown(verdict), to_junit(verdict), to_sarif(verdict)):
        assert "surgical" in form


def test_the_rule_stands_beside_others(folder: Path) -> None:
    verdict = gate(folder, cases(2, 2), RULE + "[needless_refusal]\nmax = 0.01\n")
    assert [result.outcome for result in verdict.checked] == ["passed", "failed"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("[frontier]\n", "the folder of a frontier"),
        ("[frontier]\nrun = 3\n", "the folder of a frontier"),
        (RULE + "min_share = 2\n", "a share from 0 to 1"),
        (RULE + "max = 0.1\n", "expected run, min_share"),
        ("[frontiers]\nrun = 'x'\n", "did you mean 'frontier'"),
        ("[frontier]\nrun = 'nowhere'\n", "nowhere"),
    ],
)
def test_a_rule_that_cannot_be_is_one_line(folder: Path, rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gate(folder, cases(2, 2), rule)


def test_a_release_that_was_hardly_scored_decides_nothing(folder: Path) -> None:
    verdict = gate(folder, cases(2, 2, unscored=30))
    assert verdict.exit_code == 11
    assert "the release has 75.0 % of the cases of needless_refusal unscored" in verdict.checked[0].reason
    for more, reason in (
        ("max_unscored = 0.8", "on the front in"),
        ("max_unscored = 0.8\nmin_n = 11", "10 scored cases"),
    ):
        (folder / "gate.toml").write_text(f"{RULE}{more}\n")
        again = check(AuditRun.open(folder / "release"), read_rules(folder / "gate.toml"))
        assert reason in again.checked[0].reason


def test_a_row_that_was_hardly_scored_or_is_unfinished_decides_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "front", {"plain": cases(20, 2), "surgical": cases(2, 2, unscored=30)})
    verdict = gate(tmp_path, cases(40, 40))
    assert verdict.exit_code == 11
    assert "surgical has 75.0 %" in verdict.checked[0].reason
    replies = tmp_path / "front" / "runs" / "plain" / "replies.jsonl"
    replies.write_text("".join(replies.read_text().splitlines(keepends=True)[:40]))
    verdict = check(AuditRun.open(tmp_path / "release"), read_rules(tmp_path / "gate.toml"))
    assert verdict.exit_code == 11
    assert "the frontier is unfinished: plain" in verdict.checked[0].reason
