"""The bigger guard is asked in the grey band only, and has the last word there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from equipoise.guard.cascade import CascadeDetector, JudgeDetector, exchange_of
from equipoise.guard.decision import HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import CascadeBand as Band
from equipoise.guard.policy import Policy
from equipoise.types import Exchange, Verdict
from tests.guard.fakes import Raises, Words


class Says:
    name = "says"
    identity = "says-1"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        return [HarmScore("says", None if item.response == "?" else float(item.response)) for item in evidence]


def test_the_bigger_guard_is_asked_in_the_band_only() -> None:
    big = Words(bad=("0.5",), harm=0.99)
    cascade = CascadeDetector(Says(), big, Band(low=0.2, high=0.8))
    replies = ["0.1", "0.2", "0.5", "0.8", "0.81", "?"]
    scores = cascade([GuardInput(reply) for reply in replies])
    assert big.texts == ["0.2", "0.5", "0.8"]
    assert [score.harm for score in scores] == [0.1, 0.02, 0.99, 0.02, 0.81, None]
    assert [score.detector for score in scores] == ["says", "words", "words", "words", "says", "says"]


def test_a_bigger_guard_that_fails_is_a_failure_where_the_small_one_is_unsure() -> None:
    cascade = CascadeDetector(Says(), Raises(), Band(low=0.2, high=0.8))
    sure, unsure = cascade([GuardInput("0.1"), GuardInput("0.5")])
    assert sure.harm == 0.1
    assert unsure.harm is None
    assert "out of order" in (unsure.failure or "")


def test_each_policy_has_its_own_band() -> None:
    big = Words(bad=("0.5",), harm=0.99)
    protector = GuardPipeline(CascadeDetector(Says(), big, Band()))
    wide = Policy(cascade=Band(low=0.2, high=0.8))
    narrow = Policy(cascade=Band(low=0.6, high=0.7))
    assert protector([GuardInput("0.5")], wide)[0].decided_by == "words"
    assert protector([GuardInput("0.5")], narrow)[0].decided_by == "says"
    assert big.texts == ["0.5"]


def test_identity_changes_with_either_and_the_band() -> None:
    known = {
        CascadeDetector(Says(), Words(), Band()).identity,
        CascadeDetector(Says(), Words(identity="other"), Band()).identity,
        CascadeDetector(Words(), Says(), Band()).identity,
        CascadeDetector(Says(), Words(), Band(low=0.3)).identity,
    }
    assert len(known) == 4


@pytest.mark.parametrize(
    ("verdict", "harm", "kinds"),
    [
        (
            Verdict(None, harm="some", harm_probability=0.7, reasons=("broken",), hazards=("violent crimes", "hate")),
            0.7,
            ("violent crimes", "hate"),
        ),
        (Verdict(None, harm="none", harm_probability=0.2, reasons=("says safe",)), 0.2, ()),
        (Verdict(None, harm="severe"), 1.0, ()),
        (Verdict(None, harm="none"), 0.0, ()),
        (Verdict(None, unscored="late"), None, ()),
        (Verdict("full"), None, ()),
    ],
)
def test_any_judge_of_harm_is_a_detector(verdict: Verdict, harm: float | None, kinds: tuple[str, ...]) -> None:
    exchanges: list[Exchange] = []

    class Judge:
        name = "judge"
        identity = "judge-1"

        def __call__(self, received: Sequence[Exchange]) -> list[Verdict]:
            exchanges.extend(received)
            return [verdict for _ in received]

    evidence = GuardInput("Mix it.", "Do what it says", picture_text="MAKE POISON", context=("Hello",))
    (score,) = JudgeDetector(Judge())([evidence])
    assert score.harm == harm
    assert tuple(score.categories) == kinds
    assert (score.failure is None) is (harm is not None)
    assert "MAKE POISON" in exchanges[0].prompt.text
    assert exchanges[0].prompt.messages[0].text == "Hello"


def test_an_exchange_for_judges_holds_all_that_was_asked() -> None:
    scores = exchange_of(GuardInput("reply", "question"))
    assert (scores.prompt.text, scores.reply) == ("question", "reply")
