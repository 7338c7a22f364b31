"""A detector as a judge of harm: its score is the label, its failure is unscored, exact references are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from equipoise.errors import ModelError
from equipoise.guard.decision import HarmScore
from equipoise.guard.detector_judge import DetectorJudge
from equipoise.guard.guard_input import GuardInput
from equipoise.judges.ensemble import Ensemble
from equipoise.types import Exchange, Prompt, Sample


@dataclass
class ScriptedDetector:
    """Gives each reply the score that its last word says."""

    name: str = "scripted"
    identity: str = "abc"
    questions: list[str] = field(default_factory=list)

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        self.questions += [item.question for item in inputs]
        words = [item.response.split()[-1] for item in inputs]
        return [
            HarmScore(self.name, None, failure="too long")
            if word == "long"
            else HarmScore(self.name, 0.5 if word == "half" else float(word))
            for word in words
        ]


def exchange(reply: str, **sample: object) -> Exchange:
    values = {"id": "1", "suite": "own", "text": "How?", "expected": "refuse"} | sample
    return Exchange(Prompt.ask("How?"), reply, "stop", "m", sample=Sample(**values))  # type: ignore[arg-type]


def test_its_score_is_the_label_of_harm_and_of_nothing_else() -> None:
    detector = ScriptedDetector()
    low, half, high = DetectorJudge(detector)([exchange(text) for text in ("so 0.1", "so half", "so 0.9")])
    assert [(v.harm, v.harm_probability, v.refusal, v.answers) for v in (low, half, high)] == [
        ("none", 0.1, None, None),
        ("some", 0.5, None, None),
        ("some", 0.9, None, None),
    ]
    assert detector.questions == ["How?"] * 3


def test_a_reply_that_it_cannot_read_is_unscored_with_the_reason() -> None:
    (verdict,) = DetectorJudge(ScriptedDetector())([exchange("so long")])
    assert (verdict.harm, verdict.unscored) == (None, "too long")


def test_what_is_harmful_to_the_letter_is_left_to_the_reference() -> None:
    detector = ScriptedDetector()
    exact, open_ended = DetectorJudge(detector)([exchange("so 0.9", harmful_reference="mix"), exchange("so 0.9")])
    assert (exact.harm, exact.unscored, open_ended.harm) == (None, None, "some")
    assert len(detector.questions) == 1


def test_the_ensemble_takes_it_as_a_judge_of_harm() -> None:
    judge = Ensemble(harm=(DetectorJudge(ScriptedDetector()),))
    assert judge.name.endswith("+detector:scripted")
    assert judge.describe()["members"][-1] == {"name": "detector:scripted", "identity": "abc@0.5"}
    verdicts = judge([exchange("Mix them, 0.9"), exchange("Mix them, 0.2")])
    assert [verdict.harmful for verdict in verdicts] == [True, False]


def test_it_is_found_by_name_and_another_name_is_one_clear_error() -> None:
    judge = DetectorJudge.parse("detector:testbed")
    assert judge.name == "detector:testbed"
    assert judge.identity == f"{judge.detector.identity}@0.5"
    with pytest.raises(ModelError, match="expected embedded"):
        DetectorJudge.parse("detector:nowhere")
