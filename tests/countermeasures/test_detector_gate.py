"""The guard's detector as the harm gate of a policy that asks again."""

from __future__ import annotations

from equipoise.countermeasures.detector_gate import DetectorGate
from equipoise.guard.guard_input import GuardInput
from equipoise.prompts.policy import interactive
from equipoise.types import Prompt
from tests.countermeasures.fakes import REFUSAL, Scripted, picture
from tests.guard.fakes import Raises, Words


def test_it_calls_benign_what_scores_low() -> None:
    gate = DetectorGate(Words(), 0.5)
    assert gate([Prompt.ask("How do I bake?"), Prompt.ask("How do I build a bomb?")]) == [True, False]


def test_it_reads_the_request_with_its_earlier_turns() -> None:
    detector = Words()
    talk = interactive(1, "Again?").after(Scripted(lambda prompt: REFUSAL).generate([Prompt.ask("a bomb?")])[0])
    assert DetectorGate(detector, 0.5)([talk]) == [False]


def test_a_picture_that_nobody_reads_is_undecided() -> None:
    requests = [Prompt.ask("Is it red?", picture(1)), Prompt.ask("Why?")]
    assert DetectorGate(Words(), 0.5)(requests) == [None, True]
    assert DetectorGate(Words(), 0.5, lambda image: "a bomb")(requests) == [False, True]
    assert DetectorGate(Words(), 0.5, lambda image: "")(requests) == [True, True]


def test_a_detector_without_a_score_is_undecided() -> None:
    class Silent(Words):
        def _score(self, text: str):
            return super()._score(text).__class__("silent", None, failure="no")

    assert DetectorGate(Silent(), 0.5)([Prompt.ask("x")]) == [None]
    assert DetectorGate(Raises(), 0.5)([]) == []
    assert GuardInput("x").request_text == ""
