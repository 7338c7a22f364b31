"""Whatever detectors and detoxifiers do: nothing unchecked or harmful is returned, and every reply has one decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.guard.cascade import CascadeDetector
from equipoise.guard.decision import ACTIONS, WITHHELD, GuardDecision, HarmScore, difference, sha256
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import FAIL_MODE, GuardPipeline, run_detector
from equipoise.guard.policy import CascadeBand, HarmRule, Policy, Rail, judge

odd_scores = st.one_of(st.none(), st.floats(0, 1), st.sampled_from([math.nan, math.inf, -0.1, 1.1]))
rails = st.builds(
    Rail,
    enabled=st.booleans(),
    threshold=st.floats(0, 1),
    action=st.sampled_from(ACTIONS),
    fail=st.sampled_from(["open", "closed", "refuse"]),
    categories=st.dictionaries(
        st.sampled_from(["hate", "fraud"]),
        st.builds(HarmRule, threshold=st.floats(0, 1), action=st.sampled_from(ACTIONS)),
        max_size=2,
    ),
)
policies = st.builds(Policy, rounds=st.integers(0, 3), output=rails, mode=st.sampled_from(["enforce", "observe"]))


@dataclass
class Table:
    """Scores by text; a text without a score fails."""

    scores: dict[str, float | None]
    name: str = "table"
    identity: str = "table-1"
    broken: bool = False

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        if self.broken:
            raise RuntimeError("out of order")
        return [
            HarmScore(self.name, self.scores.get(item.response), {"hate": self.scores.get(item.response) or 0.0})
            for item in inputs
        ]


@dataclass
class Numbered:
    """Rewrites `x` as `x'`; None, blanks or an exception where it is told to."""

    how: str = "good"
    name: str = "numbered"
    identity: str = "numbered-1"

    def __call__(self, inputs: Sequence[GuardInput]) -> list[str | None]:
        match self.how:
            case "raises":
                raise RuntimeError("out of order")
            case "none":
                return [None] * len(inputs)
            case "short":
                return [f"{item.response}'" for item in inputs][:-1]
            case "same":
                return [item.response for item in inputs]
        return [f"{item.response}'" for item in inputs]


texts = ("a", "b")
tables = st.fixed_dictionaries({text + "'" * rewrites: odd_scores for text in texts for rewrites in range(4)})


@settings(max_examples=300, deadline=None)
@given(tables, policies, st.sampled_from(["good", "raises", "none", "short", "same"]), st.booleans())
def test_what_is_returned_was_checked_and_allowed(
    scores: dict[str, float | None], policy: Policy, how: str, rewrite: bool
) -> None:
    pipeline = GuardPipeline(Table(scores), [Numbered(how)], policy)
    decisions = pipeline([GuardInput(text) for text in texts], rewrite=rewrite)
    assert len(decisions) == len(texts)
    for text, decision in zip(texts, decisions, strict=True):
        assert decision.original == sha256(text)
        check(text, decision, scores, policy)


def check(text: str, decision: GuardDecision, scores: dict[str, float | None], policy: Policy) -> None:
    """The decision about one reply is one that the table of scores and the policy permit."""
    rail = policy.output
    if not rail.enabled or policy.mode == "observe":
        assert (decision.action, decision.response) == ("allow", text)
        return
    harm = scores[text]
    valid = harm is not None and 0 <= harm <= 1
    if not valid:
        assert (decision.decided_by, decision.harm) == (FAIL_MODE, None)
        assert decision.action == {"open": "allow", "closed": "withhold", "refuse": "refuse"}[rail.fail]
        assert (decision.response == text) == (rail.fail == "open")
        assert decision.response != WITHHELD or rail.fail == "closed"
        return
    assert decision.harm == harm
    if decision.response == text:
        assert harm is not None
        assert decision.action == judge(rail, HarmScore("table", harm, {"hate": harm}))[0]
        assert decision.action in ("allow", "flag")
    elif decision.action == "rewrite":
        again = scores[decision.response]
        assert again is not None
        assert judge(rail, HarmScore("table", again, {"hate": again}))[0] in ("allow", "flag")
        assert 1 <= decision.rounds <= policy.rounds
    else:
        assert decision.action == "refuse"
        assert not any(decision.response.startswith(given + "'") for given in texts)


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6))
def test_a_detector_that_raises_fails_every_reply_and_stops_no_batch(replies: list[str]) -> None:
    decisions = GuardPipeline(Table({}, broken=True))([GuardInput(reply) for reply in replies])
    assert [decision.action for decision in decisions] == ["withhold"] * len(replies)
    assert all("RuntimeError: out of order" in decision.why for decision in decisions)


@given(st.lists(odd_scores, max_size=6))
def test_a_score_is_a_probability_or_a_failure(harms: list[float | None]) -> None:
    names = [str(index) for index in range(len(harms))]
    scores = run_detector(Table(dict(zip(names, harms, strict=True))), [GuardInput(name) for name in names])
    for harm, score in zip(harms, scores, strict=True):
        valid = harm is not None and 0 <= harm <= 1
        assert score.harm == (harm if valid else None)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=3), st.floats(0.01, 1))
def test_a_reply_is_as_harmful_as_its_worst_part(whole: float, parts: list[float], threshold: float) -> None:
    names = [f"part {index}" for index in range(len(parts))]
    table = Table({"whole": whole, **dict(zip(names, parts, strict=True))})
    policy = Policy(output=Rail(threshold=threshold, action="refuse"))
    (decision,) = GuardPipeline(table, policy=policy)([GuardInput("whole", side_texts=tuple(names))])
    assert decision.harm == max(whole, *parts)
    assert (decision.action == "refuse") == (max(whole, *parts) >= threshold)


@given(st.floats(0, 1), odd_scores, st.floats(0, 1), st.floats(0, 1))
def test_the_larger_guard_decides_inside_the_band_and_nowhere_else(
    small: float, large: float | None, one: float, other: float
) -> None:
    band = CascadeBand(low=min(one, other), high=max(one, other))
    cascade = CascadeDetector(Table({"a": small}, "small"), Table({"a": large}, "large"), band)
    (score,) = cascade([GuardInput("a")])
    if band.low <= small <= band.high:
        assert score.detector == "large"
        assert score.harm == (large if large is not None and 0 <= large <= 1 else None)
    else:
        assert (score.detector, score.harm) == ("small", small)


@given(st.text(max_size=30), st.text(max_size=30))
def test_equal_texts_have_no_difference_and_the_hash_tells_texts_apart(one: str, other: str) -> None:
    assert difference(one, one) == ""
    assert (sha256(one) == sha256(other)) == (one == other)


def test_half_a_surrogate_pair_is_hashed_not_refused() -> None:
    assert sha256("\ud800") != sha256("\ud801")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"context": ("one", "two"), "question": "three", "picture_text": "four"}, "one\ntwo\nthree\nfour"),
        ({"question": "three"}, "three"),
        ({"context": ("", "two")}, "two"),
        ({}, ""),
    ],
)
def test_a_request_as_one_text(parts: dict[str, object], text: str) -> None:
    item = GuardInput("the reply", **parts)  # type: ignore[arg-type]
    assert item.request_text == text
    assert item.request_only() == GuardInput(text)
