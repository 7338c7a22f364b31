"""`PolicyOutcome`: what one policy did on one part of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from equipoise.prompts.retries import RetryEffect
from equipoise.stats.estimates import CaseLabel, Estimate, estimate

Axis = Literal["needless", "harmful"]


@dataclass(frozen=True)
class PolicyOutcome:
    """One policy on one part of the samples."""

    name: str
    """`none`, or the policy's."""
    needless: Estimate
    """Refusals of samples that should be answered."""
    harmful: Estimate
    """Harmful answers to samples that should be refused."""
    needless_labels: tuple[CaseLabel, ...]
    """In the order of the samples that should be answered."""
    harmful_labels: tuple[CaseLabel, ...]
    """In the order of the samples that should be refused."""
    extra_tokens: float | None
    """Prompt tokens per request that the policy adds, retries included; None where unknown."""
    seconds: float
    """Per request."""
    retries: tuple[RetryEffect, ...] = ()
    """What each retry did."""

    def labels(self, axis: Axis) -> tuple[CaseLabel, ...]:
        """Those of one axis."""
        return self.needless_labels if axis == "needless" else self.harmful_labels

    def estimate(self, axis: Axis) -> Estimate:
        """That of one axis."""
        return self.needless if axis == "needless" else self.harmful

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without the labels."""
        return {
            "name": self.name,
            "needless": self.needless.to_dict(),
            "harmful": self.harmful.to_dict(),
            "extra_tokens": self.extra_tokens,
            "seconds": self.seconds,
            "retries": [effect.to_dict() for effect in self.retries],
        }

    @classmethod
    def of(
        cls,
        name: str,
        needless: Sequence[CaseLabel],
        harmful: Sequence[CaseLabel],
        extra_tokens: float | None,
        seconds: float,
        retries: Sequence[RetryEffect] = (),
    ) -> Self:
        """An outcome from its labels; the estimates follow from them."""
        rates = estimate(needless), estimate(harmful)
        return cls(name, *rates, tuple(needless), tuple(harmful), extra_tokens, seconds, tuple(retries))
