"""Coverage receipts: every part of a request and of its replies ends as checked, skipped or unsupported.

What nobody closed is unsupported: success cannot be recorded for something that nobody looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from equipoise.guard.decision import GuardDecision

Outcome = Literal["checked", "skipped", "unsupported"]
OUTCOMES: tuple[Outcome, ...] = ("checked", "skipped", "unsupported")


@dataclass(frozen=True)
class Receipt:
    """What became of one part."""

    place: str
    """Where it stands, such as `messages/0/content/1` or `choices/0/message/content`."""
    kind: str
    """What it is: text, picture, tool call, reasoning..."""
    outcome: Outcome
    """Checked by somebody, skipped by the policy, or nothing that anybody here can look at."""
    why: str
    """Who checked it, or why not."""


class Receipts:
    """The receipts of one request; each part is closed once."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        self._closed: dict[str, Receipt] = {}

    def expect(self, parts: Iterable[tuple[str, str]]) -> None:
        """Open a receipt for each part.

        Args:
            parts: places with their kinds.
        """
        for place, kind in parts:
            self._kinds.setdefault(place, kind)

    def close(self, place: str, outcome: Outcome, why: str) -> None:
        """End one part.

        Raises:
            ValueError: there is no such part, or it has ended.
        """
        if place not in self._kinds or place in self._closed:
            raise ValueError(f"expected an open part, got {place}")
        self._closed[place] = Receipt(place, self._kinds[place], outcome, why)

    def judged(self, place: str, decision: GuardDecision) -> None:
        """End a part by what a guard decided about it: checked by who scored it, unsupported where nobody could."""
        if decision.harm is None:
            self.close(place, "unsupported", decision.why)
        else:
            self.close(place, "checked", decision.scores[0].detector)

    def picture(self, place: str, *, read: bool) -> None:
        """End a picture that was decoded, and read where the policy says so."""
        if read:
            self.close(place, "checked", "decoded; its text is read and judged with the question")
        else:
            self.close(place, "skipped", "decoded; the policy does not read text in pictures")

    def open(self) -> list[str]:
        """Places that have not ended, in order."""
        return [place for place in self._kinds if place not in self._closed]

    def all(self) -> tuple[Receipt, ...]:
        """Every receipt, in order; what is still open ends as unsupported."""
        for place in self.open():
            self.close(place, "unsupported", "nobody looked at it")
        return tuple(self._closed[place] for place in self._kinds)

    def header(self) -> str:
        """`checked=4 skipped=1 unsupported=0`."""
        found = Counter(receipt.outcome for receipt in self.all())
        return " ".join(f"{outcome}={found[outcome]}" for outcome in OUTCOMES)

    def document(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [asdict(receipt) for receipt in self.all()]
