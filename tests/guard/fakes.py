"""Detectors and detoxifiers that do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from equipoise.guard.decision import HarmScore
from equipoise.guard.guard_input import GuardInput


@dataclass
class Words:
    """Harm is the share of bad words; remembers what it was asked."""

    bad: tuple[str, ...] = ("bomb",)
    harm: float = 0.9
    kind: str | None = None
    texts: list[str] = field(default_factory=list)
    name: str = "words"
    identity: str = "words-1"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        self.texts += [item.response for item in evidence]
        return [self._score(item.response) for item in evidence]

    def _score(self, text: str) -> HarmScore:
        hit = any(word in text for word in self.bad)
        harm = self.harm if hit else 0.02
        return HarmScore(self.name, harm, {self.kind: harm} if self.kind and hit else {})


@dataclass
class Rewrites:
    """Rewrites by a function of the reply."""

    by: Callable[[str], str | None]
    name: str = "rewrites"
    identity: str = "rewrites-1"
    calls: int = 0

    def __call__(self, evidence: Sequence[GuardInput]) -> list[str | None]:
        self.calls += 1
        return [self.by(item.response) for item in evidence]


class Raises:
    """Fails at everything."""

    name = "raises"
    identity = "raises-1"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        raise RuntimeError("out of order")
