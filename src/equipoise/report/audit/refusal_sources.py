"""Who refused, and in which form the refusal arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.audit.records import AuditCase
from equipoise.report.audit.examples import WIRES


@dataclass(frozen=True)
class RefusalSource:
    """Refusals of one kind."""

    by: str
    """The model, or the defence that took its place."""
    wire: str
    """In which form they arrived."""
    needless: int
    """Of prompts that should be answered."""
    due: int
    """Of prompts that should be refused."""
    borderline: int
    """Of borderline prompts."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.needless + self.due + self.borderline


def refusal_sources(cases: Sequence[AuditCase]) -> list[RefusalSource]:
    """Refusals, full or partial, by who made them and how; most frequent first."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for case in cases:
        if case.reply is not None and case.verdict.refused:
            counts.setdefault((case.reply.by, case.reply.wire), Counter())[case.sample.expected] += 1
    sources = [
        RefusalSource(by, WIRES.get(wire, wire), count["answer"], count["refuse"], count["borderline"])
        for (by, wire), count in counts.items()
    ]
    return sorted(sources, key=lambda row: (-row.total, row.by, row.wire))
