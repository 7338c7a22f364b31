"""What speaks against the numbers, each beside the number that it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.report.audit.untrusted_text import mapping, mappings

RATES = ("needless_refusal", "harmful_answer")
"""The two axes."""
FIRST = ("unreached", "silent")
"""Kinds of warnings that say that the numbers are not about the model."""


@dataclass(frozen=True)
class ShownWarning:
    """One reason not to take a number at face value."""

    text: str
    """In words."""
    kind: str
    """Of which kind."""
    variant: str | None
    """Whose number; None means the run."""
    suite: str | None
    """Of which suite; None means all together."""
    rate: str | None
    """Which number; None means all of them."""

    @property
    def label(self) -> str:
        """The kind, for people."""
        return self.kind.replace("_", " ").replace("-", " ") or "warning"


class WarningQueue:
    """All warnings of a run; each is handed out once, so that none is lost and none is repeated."""

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self._left = [_read(entry) for entry in mappings(summary.get("warnings"))]

    def first(self) -> tuple[ShownWarning, ...]:
        """Those that say that the numbers are not about the model: they stand at the top of the page."""
        return self._taken(lambda d: d.kind in FIRST)

    def take(self, variant: str, suite: str | None = None, rate: str | None = None) -> tuple[ShownWarning, ...]:
        """The warnings about a number of a variant, or with no rate about any of its numbers there."""
        return self._taken(lambda d: d.variant == variant and d.suite == suite and rate in (None, d.rate))

    def rest(self) -> tuple[ShownWarning, ...]:
        """Those that concern no single number, or one that the page does not show."""
        return self._taken(lambda d: True)

    def _taken(self, wanted: Any) -> tuple[ShownWarning, ...]:
        found = tuple(warning for warning in self._left if wanted(warning))
        self._left = [warning for warning in self._left if not wanted(warning)]
        return found


def _read(entry: Mapping[str, Any]) -> ShownWarning:
    about = mapping(entry.get("about"))

    def name(key: str) -> str | None:
        return str(about[key]) if about.get(key) is not None else None

    text = str(entry.get("text") or entry.get("kind") or "no words")
    return ShownWarning(text, str(entry.get("kind") or ""), name("variant"), name("suite"), name("rate"))
