"""Suites of noise: one rule for the summary, the console's table, the gate, comparisons and the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.comparison import compare_variants
from equipoise.audit.gate.rules_file import read_rules
from equipoise.audit.gate.verdict import check
from equipoise.audit.records import AuditRun
from equipoise.audit.suite_pools import left_out, noise_suites, pooled
from equipoise.audit.summary import AuditSummary, summarise
from equipoise.audit.warnings import find_warnings
from equipoise.cli.audit import print_summary
from tests.audit.factories import recipe, rows, write_run

WORLD = rows(60, "t", suite="testbed")
NOISE = rows(30, "n", suite="everyday", refusal="full")
RULES = '[needless_refusal]\nmax = 0.1\non = "point"\n'


def audited(folder: Path, content: list, model: str = "testbed/llava") -> AuditRun:  # type: ignore[type-arg]
    return write_run(folder, content, given=recipe(model=model))


def gate(run: AuditRun, rules: str) -> tuple[str, str]:
    path = run.folder / "gate.toml"
    path.write_text(rules)
    (checked,) = check(run, read_rules(path)).checked
    return checked.outcome, checked.reason


def test_only_a_model_of_the_embedded_world_makes_noise(tmp_path: Path) -> None:
    cases = audited(tmp_path, [*WORLD, *NOISE]).cases()
    assert noise_suites("testbed/llava", cases) == {"everyday"}
    assert noise_suites("org/model", cases) == frozenset()


def test_nothing_is_left_out_where_all_is_noise(tmp_path: Path) -> None:
    cases = audited(tmp_path, NOISE).cases()
    assert pooled(cases, frozenset({"everyday"})) == cases
    assert left_out(cases, cases) == []


def test_summary_console_and_gate_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = audited(tmp_path, [*WORLD, *NOISE])
    summary = summarise(run)
    plain = summary.variants["plain"]
    assert (plain.rates.needless_refusal.k, plain.rates.needless_refusal.n) == (0, 60)
    assert plain.suites["everyday"].rates.needless_refusal.k == 30, "it is shown, by itself"
    assert plain.noise == ("everyday",)
    assert AuditSummary.from_json(summary.to_json()) == summary
    print_summary(summary)
    printed = capsys.readouterr().out
    assert "plain is without everyday, which is noise here" in printed
    outcome, reason = gate(run, RULES)
    assert outcome == "passed"
    assert reason.endswith("(without everyday, which is noise here)")
    verdict = check(run, read_rules(run.folder / "gate.toml"))
    assert verdict.axes["plain"]["needless_refusal"] == plain.rates.needless_refusal


def test_a_rule_about_a_suite_of_noise_alone_still_counts(tmp_path: Path) -> None:
    run = audited(tmp_path, [*WORLD, *NOISE])
    outcome, reason = gate(run, RULES.replace("max", 'suites = ["everyday"]\nmax'))
    assert outcome == "failed"
    assert "noise" not in reason


def test_for_any_other_model_all_suites_count(tmp_path: Path) -> None:
    run = audited(tmp_path, [*WORLD, *NOISE], model="org/model")
    plain = summarise(run).variants["plain"]
    assert (plain.rates.needless_refusal.n, plain.noise) == (90, ())
    assert gate(run, RULES)[0] == "failed"


def test_a_change_over_all_suites_is_without_noise(tmp_path: Path) -> None:
    after = [
        *rows(60, "t", suite="testbed", variant="defended"),
        *rows(30, "n", suite="everyday", variant="defended"),
    ]
    run = audited(tmp_path, [*WORLD, *NOISE, *after])
    (comparison,) = compare_variants(run, run.cases())
    change = comparison.rates["needless_refusal"]
    assert (change.all.n, change.all.change) == (60, 0.0)
    assert change.suites["everyday"].all.change == -1.0


def test_a_run_of_noise_alone_says_so(tmp_path: Path) -> None:
    run = audited(tmp_path, NOISE)
    texts = [warning.text for warning in find_warnings(run, run.cases()) if warning.suite is None]
    assert any(text.startswith("every suite is noise") for text in texts)
