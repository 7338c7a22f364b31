"""Hands each warning of an audit to the number that it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from equipoise.audit.warnings import SILENT, UNREACHED, AuditWarning

FIRST: Final = (UNREACHED, SILENT)
"""Kinds of warnings that say that the numbers are not about the model."""


class WarningQueue:
    """All warnings of a run; each is handed out once, so that none is lost and none is repeated."""

    def __init__(self, warnings: Iterable[AuditWarning]) -> None:
        self._remaining = list(warnings)

    def first(self) -> tuple[AuditWarning, ...]:
        """Those that say that the numbers are not about the model: they stand at the top of the page."""
        return self._take(lambda warning: warning.kind in FIRST)

    def take(self, variant: str, suite: str | None = None, rate: str | None = None) -> tuple[AuditWarning, ...]:
        """The warnings about one number of a variant, or without `rate` about any of its numbers there."""
        return self._take(
            lambda warning: warning.variant == variant and warning.suite == suite and rate in (None, warning.rate)
        )

    def remaining(self) -> tuple[AuditWarning, ...]:
        """Those that were not handed out yet; they stay."""
        return tuple(self._remaining)

    def rest(self) -> tuple[AuditWarning, ...]:
        """Those about no single number, or about one that the page does not show."""
        return self._take(lambda warning: True)

    def _take(self, wanted: Callable[[AuditWarning], bool]) -> tuple[AuditWarning, ...]:
        # Taken from the queue, so that a warning about a suite is not shown again under the whole.
        taken = tuple(warning for warning in self._remaining if wanted(warning))
        self._remaining = [warning for warning in self._remaining if not wanted(warning)]
        return taken


def label(warning: AuditWarning) -> str:
    """The kind of a warning as words."""
    return warning.kind.replace("_", " ").replace("-", " ")
