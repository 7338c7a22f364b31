"""An audit doubts itself: reasons not to trust a number, each beside the number and with the rule that raised it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.audit.labels import Kind
from equipoise.audit.records import Case, Run


@dataclass(frozen=True)
class Doubt:
    """A reason not to trust a number."""

    kind: str
    """Which rule raised it, such as `few-samples`."""
    text: str
    """For a person, with the figures; never a word of a prompt or a reply."""
    variant: str | None = None
    """Which variant it is about; None for the whole run."""
    suite: str | None = None
    """Which suite; None for all."""
    rate: Kind | None = None
    """Which rate; None for all."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `{about: {variant, suite, rate}, kind, text}`."""
        about = {"variant": self.variant, "suite": self.suite, "rate": self.rate}
        return {"about": about, "kind": self.kind, "text": self.text}


def find_doubts(run: Run, cases: Sequence[Case]) -> list[Doubt]:
    """Every doubt about a run, those about the whole run first."""
    return []
