"""`TimeBudget`: how long the work on a frontier took so far, over all its commands, and what still fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from equipoise.audit.frontier.work_clock import WorkClock
from equipoise.countermeasures.catalogue import parse

RATIOS: Final = {"smooth": 9.0, "vote": 5.0, "diffpure": 9.0, "recover": 3.0, "second": 2.0, "guard": 1.5}
"""Time of a reply over that of the plain model before it is measured, roughly; 1.2 for all others."""
OTHER_RATIO: Final = 1.2


class TimeBudget(WorkClock):
    """Seconds of work, kept in a file so that a killed command counts, and what still fits.

    Args:
        file: where they are kept.
        limit: seconds that may be used in all; None is no limit.
    """

    def __init__(self, file: Path, limit: float | None) -> None:
        super().__init__(file)
        self.limit = limit

    def shortfall(self, needed: float) -> str | None:
        """Why something is left out that needs so many seconds; None where it fits."""
        if self.limit is None:
            return None
        left = max(self.limit - self.seconds, 0.0)
        if needed <= left:
            return None
        return f"budget: needs about {_minutes(needed)}, {_minutes(left)} of {_minutes(self.limit)} left"


def guessed_ratio(specs: Sequence[str]) -> float:
    """Time of a reply through a chain over that of the plain model, before anything was measured."""
    ratio = 1.0
    for spec in specs:
        parsed = parse(spec)
        copies = parsed.values.get("copies", "")
        ratio *= float(copies) if copies.isdigit() else RATIOS.get(parsed.name, OTHER_RATIO)
    return ratio


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
