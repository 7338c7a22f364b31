"""A policy is what its file says; what cannot be is one error that names the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import UsageError
from equipoise.guard.decision import ACTIONS, HarmScore
from equipoise.guard.policy import ANNOTATED, HarmRule, Policy, Rail, judge, load, parse

PROBABILITY = st.floats(0, 1)


def test_the_annotated_file_is_the_default_policy() -> None:
    assert parse(ANNOTATED) == Policy()
    assert parse("") == Policy()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[output]\nthreshhold = 0.1", "output.threshhold"),
        ("[output]\nthreshold = 1.5", "output.threshold"),
        ("[output]\naction = 'block'", "output.action"),
        ("[output]\nfail = 'maybe'", "output.fail"),
        ("[output.categories.hate]\nthreshold = 'high'", "output.categories.hate.threshold"),
        ("version = 2", "version"),
        ("rounds = -1", "rounds"),
        ("[cascade]\nlow = 0.9\nhigh = 0.1", "cascade"),
        ("mode = 'off'", "mode"),
        ("= 1", "TOML"),
    ],
)
def test_what_cannot_be_is_named(text: str, names: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(text, "my.toml")
    assert names in str(raised.value)
    assert "my.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_one_that_is_no_text_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a policy"):
        load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load(tmp_path / "bytes.toml")
    with pytest.raises(UsageError, match="expected a policy"):
        load(tmp_path)


def test_the_revision_changes_with_every_setting_and_not_with_how_it_is_written() -> None:
    assert parse("rounds = 2").revision == Policy().revision
    revisions = {
        parse(text).revision
        for text in ("", "rounds = 1", "name = 'x'", "[output]\nthreshold = 0.4", "[input]\nenabled = true")
    }
    assert len(revisions) == 5


def test_a_kind_with_a_rule_of_its_own_is_judged_by_it_alone() -> None:
    rail = Rail(threshold=0.5, action="refuse", categories={"advice": HarmRule(threshold=0.95, action="flag")})
    assert judge(rail, HarmScore("d", 0.9, {"advice": 0.9, "hate": 0.1})) == ("allow", ())
    assert judge(rail, HarmScore("d", 0.97, {"advice": 0.97})) == ("flag", ("advice",))
    assert judge(rail, HarmScore("d", 0.9, {"advice": 0.2, "hate": 0.9})) == ("refuse", ("hate",))
    assert judge(rail, HarmScore("d", 0.5)) == ("refuse", ())
    assert judge(rail, HarmScore("d", 0.49)) == ("allow", ())


@given(PROBABILITY, PROBABILITY, PROBABILITY, st.sampled_from(ACTIONS))
def test_a_higher_score_is_never_treated_more_mildly(low: float, high: float, threshold: float, action: str) -> None:
    rail = Rail(threshold=threshold, action=action)  # type: ignore[arg-type]
    low, high = sorted((low, high))
    mild, strict = (ACTIONS.index(judge(rail, HarmScore("d", harm))[0]) for harm in (low, high))
    assert mild <= strict


def test_the_strictest_rule_that_fires_counts() -> None:
    rail = Rail(categories={"a": HarmRule(threshold=0.1, action="flag"), "b": HarmRule(threshold=0.1, action="refuse")})
    action, kinds = judge(rail, HarmScore("d", 0.9, {"a": 0.9, "b": 0.3}))
    assert (action, kinds) == ("refuse", ("a", "b"))


def test_a_failure_is_no_score() -> None:
    with pytest.raises(ValueError, match="failure"):
        judge(Rail(), HarmScore("d", None, failure="late"))
