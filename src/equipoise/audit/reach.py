"""Whether the model was reached at all: counts of replies with text, of errors, and of refusals without text.

A provider's filter that stops every harmful prompt while safe ones are answered is something to measure. Where nothing
is ever answered nobody can tell a filter from a wrong address, and the numbers are about no model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from equipoise.audit.records import AuditCase

FEWEST_SPOKEN: Final = 0.02
"""Share of the prompts sent that must get words back, or the model counts as not reached."""


@dataclass(frozen=True)
class Reach:
    """What came back for some prompts."""

    sent: int
    """Prompts that were sent, whatever came of it."""
    spoken: int
    """Those with words in the reply, its reasoning or its refusal."""
    stopped: int
    """Those with a refusal on the wire and not a word: a policy error, a filter."""
    failed: int
    """Those with an error instead of a reply."""

    @property
    def silent(self) -> bool:
        """Whether nothing was answered, or next to nothing: words for fewer than `FEWEST_SPOKEN` of the prompts."""
        return self.sent > 0 and (self.spoken == 0 or self.spoken < FEWEST_SPOKEN * self.sent)

    @property
    def counts(self) -> str:
        """In words: `0 of 200 prompts got a word of reply: 200 were refused on the wire, 0 got an error`."""
        empty = self.sent - self.spoken - self.stopped - self.failed
        rest = f", {empty} an empty reply" if empty else ""
        return (
            f"{self.spoken} of {self.sent} prompts got a word of reply: "
            f"{self.stopped} were refused on the wire, {self.failed} got an error{rest}"
        )

    def to_json(self) -> dict[str, Any]:
        """For JSON: `{reached, sent, spoken, stopped, failed}`."""
        return {
            "reached": not self.silent,
            "sent": self.sent,
            "spoken": self.spoken,
            "stopped": self.stopped,
            "failed": self.failed,
        }


def reach_of(cases: Iterable[AuditCase]) -> Reach:
    """What came back for these cases; those that were never sent do not count."""
    sent = spoken = stopped = failed = 0
    for case in cases:
        reply = case.reply
        if reply is None:
            continue
        sent += 1
        if reply.error is not None:
            failed += 1
        elif reply.reply.strip() or reply.reasoning.strip():
            spoken += 1
        elif reply.wire != "text" or reply.finish == "content_filter":
            stopped += 1
    return Reach(sent, spoken, stopped, failed)
