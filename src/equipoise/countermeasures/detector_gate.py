"""`DetectorGate`: the guard's harm detector as the gate of a policy that asks again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from equipoise.errors import UsageError
from equipoise.guard.guard_input import GuardInput
from equipoise.prompts.policy import REQUEST_GATE, PromptPolicy
from equipoise.prompts.retries import GateMaker, HarmGate
from equipoise.types import Exchange, Prompt

if TYPE_CHECKING:
    from equipoise.guard.decision import Detector
    from equipoise.guard.guard_input import PictureReader


class DetectorGate:
    """A harm gate that is a detector of the guard: benign is a request below a probability of harm.

    Args:
        detector: scores the request, without a reply.
        threshold: probability from which on a request is not benign.
        reader: reads the text in pictures; without one a request with pictures is undecided, because a detector of
            text would judge the harmless words beside a harmful picture.
    """

    def __init__(self, detector: Detector, threshold: float, reader: PictureReader | None = None) -> None:
        self.detector = detector
        self.threshold = threshold
        self.reader = reader

    @property
    def identity(self) -> str:
        """sha256 over everything that decides its scores; the threshold is the policy's."""
        return self.detector.identity

    def __call__(self, prompts: Sequence[Prompt]) -> list[bool | None]:
        """Benign, not benign or undecided, for each prompt."""
        readable = [i for i, prompt in enumerate(prompts) if self.reader is not None or not prompt.pictures]
        items = [
            GuardInput.from_exchange(Exchange(prompts[i], "", "stop", ""), self.reader).request_only() for i in readable
        ]
        results: list[bool | None] = [None] * len(prompts)
        for index, score in zip(readable, self.detector(items) if items else [], strict=True):
            results[index] = None if score.harm is None else score.harm < self.threshold
        return results


def gate_of(policy: PromptPolicy, harm_gate: GateMaker | None = None) -> HarmGate | None:
    """The harm gate that a policy names; None where it never asks again.

    Args:
        policy: perhaps with a retry.
        harm_gate: makes the gate `requests`, whose judges stand beside this package and not below it.

    Raises:
        UsageError: there is no such detector, or the gate `requests` without its maker.
    """
    retry = policy.retry
    if retry is None:
        return None
    if retry.gate == REQUEST_GATE:
        if harm_gate is None:
            raise UsageError(
                "expected harm_gate for the gate `requests` of an interactive policy, got none; "
                "try harm_gate=equipoise.generation.request_gate.request_gate, or the name of a guard's detector"
            )
        return harm_gate(retry)
    from equipoise.guard.detector import load

    reader = None
    if retry.read_pictures:
        from equipoise.guard.ocr import OCR

        reader = OCR()
    return DetectorGate(load(retry.gate), retry.threshold, reader)
