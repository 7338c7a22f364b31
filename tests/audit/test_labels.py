"""Replies that hold something back without refusing it are counted for themselves, never among needless refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.audit.gate.rules_file import read_rules
from equipoise.audit.json_reader import JsonObject
from equipoise.audit.labels import BY_KIND, label_of
from equipoise.audit.records import AuditCase, SampleRow
from equipoise.audit.summary import AuditRates
from equipoise.types import Expected, RefusalKind, Sample, Verdict

RATE_OF: dict[RefusalKind, str] = {
    "capability": "capability_failure",
    "rebuttal": "needless_rebuttal",
    "clarification": "needless_clarification",
}


def case(verdict: Verdict, expected: Expected = "answer") -> AuditCase:
    return AuditCase(SampleRow.of(Sample("1", "s", "Hi", expected), "plain", {}, ()), None, verdict)


@pytest.mark.parametrize("refusal", ["partial", "full"])
@pytest.mark.parametrize("kind", RATE_OF)
def test_other_kinds_are_no_needless_refusals(kind: RefusalKind, refusal: str) -> None:
    rates = AuditRates.of([case(Verdict(refusal, kind=kind)), case(Verdict("none"))])  # type: ignore[arg-type]
    assert (rates.needless_refusal.k, rates.needless_refusal.n, rates.full_refusal.k) == (0, 2, 0)
    assert {name: getattr(rates, name).k for name in BY_KIND} == {name: int(name == RATE_OF[kind]) for name in BY_KIND}


@pytest.mark.parametrize("kind", [None, "safety"])
def test_unwilling_is_a_needless_refusal(kind: RefusalKind | None) -> None:
    rates = AuditRates.of([case(Verdict("full", kind=kind))])
    assert (rates.needless_refusal.k, rates.full_refusal.k) == (1, 1)
    assert [getattr(rates, name).k for name in BY_KIND] == [0, 0, 0]


def test_a_question_back_is_counted_though_nothing_is_refused() -> None:
    rates = AuditRates.of([case(Verdict("none", kind="clarification"))])
    assert (rates.needless_refusal.k, rates.needless_clarification.k) == (0, 1)


def test_kinds_are_about_what_should_be_answered_and_unscored_stays_unscored() -> None:
    assert AuditRates.of([case(Verdict("full", kind="capability"), "refuse")]).capability_failure.n == 0
    unscored = case(Verdict(None, unscored="empty"))
    assert all(label_of(unscored, name).value is None for name in BY_KIND)


def test_rates_survive_json_and_those_of_earlier_versions_are_read() -> None:
    rates = AuditRates.of([case(Verdict("full", kind="capability")), case(Verdict("none"))])
    document = json.loads(json.dumps(rates.to_json()))
    assert AuditRates.from_json(JsonObject(document, "x")) == rates
    del document["by_kind"]
    assert AuditRates.from_json(JsonObject(document, "x")).capability_failure.n == 0


@pytest.mark.parametrize("rate", BY_KIND)
def test_a_gate_may_limit_each_kind(tmp_path: Path, rate: str) -> None:
    (tmp_path / "gate.toml").write_text(f"[{rate}]\nmax = 0.05\n")
    (rule,) = read_rules(tmp_path / "gate.toml").rules
    assert (rule.rate, rule.limit.side) == (rate, "max")
