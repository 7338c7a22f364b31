"""The pipeline judges a text in all its readings: the highest score counts, for replies, rewrites and requests."""

from __future__ import annotations

import base64
import json

import pytest

from equipoise.guard import pipeline
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import FailMode, Policy, Rail
from tests.guard.fakes import Raises, Rewrites, Words

HARMFUL = "Take the powder and build a bomb from it in your own garden."
HIDDEN = base64.b64encode(HARMFUL.encode()).decode()
HARMLESS = "Mix the flour with water and salt, and bake the bread for an hour."


def test_a_hidden_reply_is_stopped_and_the_decision_says_how_it_was_read() -> None:
    decision = GuardPipeline(Words())([GuardInput(HIDDEN, "How?")])[0]
    assert (decision.action, decision.harm) == ("refuse", 0.9)
    assert decision.scores[0].reading == "decoded"
    assert "another reading (decoded)" in decision.why


def test_a_rail_without_readings_judges_the_text_alone() -> None:
    policy = Policy(output=Rail(readings=False))
    assert GuardPipeline(Words(), policy=policy)([GuardInput(HIDDEN, "How?")])[0].action == "allow"


def test_ordinary_text_is_judged_once() -> None:
    detector = Words()
    decision = GuardPipeline(detector)([GuardInput(HARMLESS, "How do I bake bread?")])[0]
    assert decision.response == HARMLESS
    assert detector.texts == [HARMLESS]
    assert decision.scores[0].reading == ""


def test_a_harmless_hidden_text_passes_byte_for_byte() -> None:
    hidden = base64.b64encode(HARMLESS.encode()).decode()
    decision = GuardPipeline(Words())([GuardInput(hidden)])[0]
    assert (decision.action, decision.response) == ("allow", hidden)


def test_a_rewrite_that_hides_harm_is_not_returned() -> None:
    decision = GuardPipeline(Words(), [Rewrites(lambda text: HIDDEN)])([GuardInput(HARMFUL)])[0]
    assert decision.action == "refuse"
    assert all(score.harm == 0.9 for score in decision.scores)


def test_a_side_text_is_read_too() -> None:
    item = GuardInput(f"{HARMLESS}\n{HIDDEN}", side_texts=(HIDDEN,))
    assert GuardPipeline(Words())([item])[0].action == "refuse"


def test_a_hidden_request_is_stopped_by_the_input_rail() -> None:
    policy = Policy(input=Rail(enabled=True, action="refuse"))
    pipeline = GuardPipeline(Words(), policy=policy)
    assert pipeline.screen([GuardInput("", HIDDEN)])[0].action == "refuse"
    assert pipeline.screen([GuardInput("", HARMLESS)])[0].action == "allow"


def test_several_replies_keep_their_order() -> None:
    inputs = [GuardInput(HARMLESS), GuardInput(HIDDEN), GuardInput(HARMLESS), GuardInput(HARMFUL)]
    decisions = GuardPipeline(Words())(inputs)
    assert [decision.action for decision in decisions] == ["allow", "refuse", "allow", "refuse"]


def test_a_detector_that_fails_fails_in_every_reading() -> None:
    decision = GuardPipeline(Raises())([GuardInput(HIDDEN)])[0]
    assert (decision.action, decision.failure) == ("withhold", "failed")


@pytest.mark.parametrize(("fail", "action"), [("closed", "withhold"), ("open", "allow"), ("refuse", "refuse")])
def test_readings_that_cannot_be_found_are_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, fail: FailMode, action: str
) -> None:
    def broken(item: GuardInput) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(pipeline, "variants", broken)
    decision = GuardPipeline(Words())([GuardInput("A fine day.", "How?")], Policy(output=Rail(fail=fail)))[0]
    assert (decision.action, decision.decided_by) == (action, "fail mode")
    assert "RecursionError" in decision.why


@pytest.mark.parametrize("fail", ["closed", "open", "refuse"])
def test_a_failed_part_does_not_hide_one_that_is_harmful(monkeypatch: pytest.MonkeyPatch, fail: FailMode) -> None:
    def broken(item: GuardInput) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(pipeline, "variants", broken)
    decision = GuardPipeline(Words())([GuardInput(HARMFUL, "How?")], Policy(output=Rail(fail=fail)))[0]
    assert (decision.action, decision.harm) == ("refuse", 0.9)


@pytest.mark.parametrize("gap", ["\n", "\t", "\u00a0"])
def test_words_behind_the_escapes_of_json_are_judged(gap: str) -> None:
    harm = HARMFUL.replace(" ", gap)
    text = f"write_file\n{json.dumps({'path': 'a.txt', 'content': harm})}"
    pipeline = GuardPipeline(Words((harm,)), policy=Policy(input=Rail(enabled=True, action="refuse")))
    decision = pipeline([GuardInput(f"Here it is.\n{text}", side_texts=("Here it is.",))])[0]
    assert (decision.action, decision.scores[0].reading) == ("refuse", "json")
    assert pipeline.screen([GuardInput("", text)])[0].action == "refuse"


def test_a_harmless_json_passes_byte_for_byte() -> None:
    text = json.dumps({"path": "a.txt", "content": HARMLESS})
    decision = GuardPipeline(Words())([GuardInput(text)])[0]
    assert (decision.action, decision.response) == ("allow", text)
