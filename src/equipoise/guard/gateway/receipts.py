"""Coverage receipts: every part of a request and of its replies ends as checked, skipped or unsupported.

`finish` closes the parts that no check handled as unsupported, so nothing unchecked is recorded as checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from equipoise.guard.decision import GuardDecision

ReceiptOutcome = Literal["checked", "skipped", "unsupported"]
OUTCOMES: tuple[ReceiptOutcome, ...] = ("checked", "skipped", "unsupported")


@dataclass(frozen=True)
class Receipt:
    """The status of one part."""

    path: str
    """Its path, such as `messages/0/content/1` or `choices/0/message/content`."""
    kind: str
    """Its kind: text, picture, tool call, reasoning..."""
    outcome: ReceiptOutcome
    """Checked, skipped by the policy, or not checkable here."""
    why: str
    """The name of the check, or the reason why there was none."""


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
        for path, kind in parts:
            self._kinds.setdefault(path, kind)

    def close(self, path: str, outcome: ReceiptOutcome, why: str) -> None:
        """Close the receipt of one part.

        Raises:
            ValueError: there is no such part, or it is closed.
        """
        # A second outcome would be a contradiction in the record, and one without a part a claim about nothing.
        if path not in self._kinds or path in self._closed:
            raise ValueError(f"expected an open part, got {path}")
        self._closed[path] = Receipt(path, self._kinds[path], outcome, why)

    def close_by_decision(self, path: str, decision: GuardDecision) -> None:
        """Close a part by a decision: checked by the detector that scored it, or unsupported if the check failed."""
        if decision.harm is None:
            self.close(path, "unsupported", decision.why)
        else:
            self.close(path, "checked", decision.scores[0].detector)

    def close_picture(self, path: str, *, read: bool) -> None:
        """Close a picture that was decoded.

        Args:
            path: of the picture.
            read: whether its text was read.
        """
        if read:
            self.close(path, "checked", "decoded; its text is read and judged with the question")
        else:
            self.close(path, "skipped", "decoded; the policy does not read text in pictures")

    def open_paths(self) -> list[str]:
        """Paths of the parts without a receipt, in order."""
        return [path for path in self._kinds if path not in self._closed]

    def finish(self) -> None:
        """Close every part that is still open as unsupported; no check handled it."""
        for path in self.open_paths():
            self.close(path, "unsupported", "nobody looked at it")

    def all(self) -> tuple[Receipt, ...]:
        """The receipts of the closed parts, in the order of the request."""
        return tuple(self._closed[path] for path in self._kinds if path in self._closed)

    def counts(self) -> Counter[ReceiptOutcome]:
        """How many of the closed parts have each outcome."""
        return Counter(receipt.outcome for receipt in self._closed.values())

    def header(self) -> str:
        """Counts of the closed parts, such as `checked=4 skipped=1 unsupported=0`."""
        counts = self.counts()
        return " ".join(f"{outcome}={counts[outcome]}" for outcome in OUTCOMES)

    def to_json(self) -> list[dict[str, Any]]:
        """The receipts of the closed parts as JSON objects."""
        # Not `asdict`, which copies each value deeply: a request may have thousands of parts.
        return [dict(vars(receipt)) for receipt in self.all()]
