"""How many prompts may fail for good before a run counts as unfinished: `--max-failed SHARE|N`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Self

from equipoise.audit.records import AuditRun
from equipoise.errors import UsageError

FORM: Final = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<percent>%?)", re.ASCII)


@dataclass(frozen=True)
class FailureLimit:
    """A count, or a share of the prompts that can be sent."""

    count: int = 0
    """Prompts, where `share` is None."""
    share: float | None = None
    """From 0 to 1."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """A whole number is a count; `0.01` and `1%` are shares.

        Raises:
            UsageError: neither.
        """
        match = FORM.fullmatch(text.strip())
        if match is not None:
            number = float(match["number"])
            if not match["percent"] and "." not in match["number"]:
                return cls(count=int(number))
            share = number / 100 if match["percent"] else number
            if share <= 1:
                return cls(share=share)
        raise UsageError(f"expected a count or a share of prompts, got {text!r}; try 3, 0.01 or 1%")

    def allows(self, failed: int, total: int) -> bool:
        """Whether so many failures of so many prompts are within the limit."""
        return failed <= (self.count if self.share is None else self.share * total)


def accept_failures(run: AuditRun, limit: FailureLimit) -> int:
    """Accept the permanent failures of a run where they are within a limit: they are unscored, and nothing is missing.

    Failures that another try may cure are never accepted.

    Returns:
        How many prompts of the run are accepted, those of earlier calls among them.

    Raises:
        UsageError: a file of the folder was changed.
        OutputError: the folder cannot be written.
    """
    samples = [row for row in run.samples().rows() if row.sample.problem is None]
    last = {row.key: row for row in run.replies().rows()}
    failed = [last[row.key] for row in samples if row.key in last and last[row.key].error is not None]
    permanent = [row for row in failed if row.permanent]
    if permanent and limit.allows(len(permanent), len(samples)):
        run.replies().append(replace(row, accepted=True) for row in permanent if not row.accepted)
        return len(permanent)
    return sum(row.accepted for row in failed)
