"""Doubts stand once, by weight, and their numbers lead back to every number that they are about."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.labels import AXES
from equipoise.audit.summary import summarise
from equipoise.audit.warnings import AuditWarning, find_warnings
from equipoise.report.audit.doubts import list_doubts
from tests.audit.factories import recipe, rows, write_run

warnings = st.builds(
    AuditWarning,
    kind=st.sampled_from(["few-samples", "unscored", "other-world"]),
    text=st.sampled_from(["a", "b", "x: a", "y: x: a"]),
    variant=st.sampled_from([None, "plain", "perturbed"]),
    suite=st.sampled_from([None, "safe"]),
    rate=st.sampled_from([None, *AXES]),
    may_change=st.none() | st.floats(0, 1),
)


@given(st.lists(warnings, max_size=10))
def test_every_warning_has_one_doubt_and_no_doubt_stands_twice(content: list[AuditWarning]) -> None:
    doubts, numbers = list_doubts(content)
    assert set(numbers) == set(content)
    assert [doubt.number for doubt in doubts] == list(range(1, len(doubts) + 1))
    assert set(numbers.values()) == {doubt.number for doubt in doubts}
    assert len({(doubt.kind, doubt.text) for doubt in doubts}) == len(doubts)
    for warning, number in numbers.items():
        doubt = doubts[number - 1]
        assert doubt.kind == warning.kind
        assert warning.text.endswith(doubt.text)
        assert warning.may_change is None or (doubt.may_change or 0) >= warning.may_change
    known = [doubt.may_change for doubt in doubts if doubt.may_change is not None]
    assert known == sorted(known, reverse=True)


def test_the_same_reason_at_a_suite_and_at_its_variant_is_one() -> None:
    pair = [AuditWarning("few-samples", "too few", "plain", suite, AXES[0], 0.2) for suite in (None, "safe")]
    (doubt,), numbers = list_doubts(pair)
    assert doubt.about == ("needless refusal, plain", "safe, needless refusal, plain")
    assert doubt.weight == "up to 20\N{NO-BREAK SPACE}points"
    assert numbers == dict.fromkeys(pair, 1)


def test_weights_are_words() -> None:
    def weight(may_change: float | None) -> str:
        return list_doubts([AuditWarning("k", "t", may_change=may_change)])[0][0].weight.replace("\u00a0", " ")

    assert [weight(value) for value in (1.0, 0.25, 0.004, None)] == [
        "all of it",
        "up to 25 points",
        "less than 1 point",
        "by an unknown amount",
    ]


def test_every_warning_about_a_rate_says_how_much_it_may_change_and_survives_json(tmp_path: Path) -> None:
    content = [
        *rows(6, "a", refusal="full", review=True),
        *rows(3, "b", refusal=None, unscored="no judge"),
        *rows(30, "c", degenerate=True, finish="length", text="twice"),
        *rows(12, "d", expected="refuse", harm=None),
    ]
    run = write_run(tmp_path, content)
    raised = find_warnings(run, run.cases())
    kinds = {warning.kind for warning in raised}
    assert kinds >= {"review", "unscored", "degenerate", "cut-off", "duplicates", "harm-unjudged"}
    for warning in raised:
        assert warning.may_change is not None or warning.rate is None, warning
        assert warning.may_change is None or 0 <= warning.may_change <= 1
    assert summarise(run).from_json(summarise(run).to_json()).warnings == tuple(raised)


def test_a_pool_is_doubted_without_its_noise(tmp_path: Path) -> None:
    content = [*rows(200, "a", suite="testbed"), *rows(30, "b", refusal="full", suite="everyday")]
    run = write_run(tmp_path, content, given=recipe(model="testbed/llava"))
    raised = find_warnings(run, run.cases())
    assert not [w for w in raised if w.kind == "other-world" and w.suite is None]
    assert not [w for w in raised if w.suite is None and w.rate == AXES[0]], "200 of one suite are enough"
    assert [w.kind for w in raised if w.suite == "everyday" and w.rate is None] == ["other-world"]
