"""`CascadeDetector`: a small detector on all traffic, a bigger guard only where the small one is unsure.

In the grey band the larger guard decides; if it fails, the check has failed, since the small detector has
just said that it does not know. `JudgeDetector` makes a detector of any judge of harm, such as the guard models of
`judges.guard_models`, local or served.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from equipoise.guard.decision import Detector, HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import SharingDetector, failure_score, run_detector
from equipoise.guard.policy import CascadeBand
from equipoise.judges.run_judge import digest, identity_of, name_of
from equipoise.types import Exchange, Judge, Message, Prompt, Verdict


@dataclass(frozen=True)
class CascadeDetector:
    """Two detectors as one."""

    detector: Detector
    """Asked about everything."""
    escalation_guard: Detector
    """Asked where the small one's probability is inside the band."""
    band: CascadeBand
    """From `low` to `high`, both inclusive."""

    def with_band(self, band: CascadeBand) -> CascadeDetector:
        """The same two with the band of a policy."""
        return replace(self, band=band)

    @property
    def together(self) -> int:
        """Of the small detector, which is asked about everything; 1 where it shares nothing."""
        return self.detector.together if isinstance(self.detector, SharingDetector) else 1

    def prepare(self, inputs: Sequence[GuardInput]) -> None:
        """What the small detector will need; the bigger guard is asked one by one."""
        if isinstance(self.detector, SharingDetector):
            self.detector.prepare(inputs)

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.detector.name} > {self.escalation_guard.name}"

    @property
    def identity(self) -> str:
        """sha256 over both and the band."""
        return digest([self.detector.identity, self.escalation_guard.identity, self.band.low, self.band.high])

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        """The small detector's score outside the band, the bigger guard's inside; a failure of either is one."""
        scores = run_detector(self.detector, inputs)
        # A failed score is not in the band: asking the larger guard there would hide that the small detector, which
        # sees all traffic, is broken.
        unsure = [
            index
            for index, score in enumerate(scores)
            if score.harm is not None and self.band.low <= score.harm <= self.band.high
        ]
        for index, score in zip(
            unsure, run_detector(self.escalation_guard, [inputs[index] for index in unsure]), strict=True
        ):
            # The larger guard's score replaces the other; it is not averaged with what was just called unsure. A
            # failure replaces it as well, so that the fail mode applies.
            scores[index] = score
        return scores


@dataclass(frozen=True)
class JudgeDetector:
    """Any judge of harm as a detector."""

    judge: Judge
    """Who is asked."""

    @property
    def name(self) -> str:
        """The judge's."""
        return name_of(self.judge)

    @property
    def identity(self) -> str:
        """The judge's."""
        return identity_of(self.judge)

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        """What the judge says of harm; unscored is a failure, a label without a probability counts as certain."""
        begin = time.perf_counter()
        verdicts = self.judge([exchange_of(item) for item in inputs])
        seconds = (time.perf_counter() - begin) / max(1, len(inputs))
        return [self._score(verdict, seconds) for verdict in verdicts]

    def _score(self, verdict: Verdict, seconds: float) -> HarmScore:
        harm = verdict.harm_probability
        if harm is None and verdict.harm is not None:
            harm = float(verdict.harm != "none")
        if harm is None:
            return failure_score(self, verdict.unscored or "the judge says nothing about harm")
        return HarmScore(self.name, harm, dict.fromkeys(verdict.hazards, harm), seconds=seconds)


def exchange_of(item: GuardInput) -> Exchange:
    """An exchange for judges: what was asked, with what stands in its pictures, and the reply."""
    question = item.question
    if item.picture_text:
        question = f"{question}\n\n[Text in the picture] {item.picture_text}".strip()
    earlier = tuple(Message("user", text) for text in item.context)
    return Exchange(Prompt((*earlier, Message("user", question, item.images))), item.response, "stop", "")
