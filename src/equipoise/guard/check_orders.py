"""What a guard is asked off the event loop, as values: the same here and in a worker process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from equipoise.guard.decision import GuardDecision, HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline, run_detector
from equipoise.guard.policy import Policy, Rail

Answer = TypeVar("Answer")


class CheckOrder(ABC, Generic[Answer]):
    """Something to ask a pipeline; it is pickled on its way to a worker."""

    @abstractmethod
    def run(self, pipeline: GuardPipeline) -> Answer:
        """Ask it."""


@dataclass(frozen=True)
class DecisionOrder(CheckOrder[GuardDecision]):
    """Decide about one reply; see `GuardPipeline`."""

    item: GuardInput
    policy: Policy
    rail: Rail
    rewrite: bool

    def run(self, pipeline: GuardPipeline) -> GuardDecision:
        """The decision."""
        return pipeline([self.item], self.policy, rail=self.rail, rewrite=self.rewrite)[0]


@dataclass(frozen=True)
class ProbeOrder(CheckOrder[HarmScore]):
    """Score one reply with the detector alone."""

    item: GuardInput

    def run(self, pipeline: GuardPipeline) -> HarmScore:
        """The score."""
        return run_detector(pipeline.detector, [self.item])[0]


@dataclass(frozen=True)
class PreparationOrder(CheckOrder[None]):
    """Compute what checks of these replies will share."""

    items: tuple[GuardInput, ...]

    def run(self, pipeline: GuardPipeline) -> None:
        """Compute it."""
        pipeline.prepare(self.items)
