"""`ChoiceBuffer`: one choice of a stream, of which nothing leaves before it was judged together with what follows.

A chunk leaves whole or not at all, so what is allowed reaches the client as the upstream sent it. It may leave once a
check allowed a text that holds it and `hold` further characters, or the reply's end. A tool call leaves only after the
whole reply was allowed: half of one must never be run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.guard.gateway.blobs import in_blob
from equipoise.guard.gateway.content_parts import ContentPart, by_themselves, words_of


@dataclass
class ChoiceBuffer:
    """One choice."""

    index: int
    """Its number."""
    hold: int
    """Characters that stay behind."""
    text: str = ""
    """All that it said so far, in order: what is judged."""
    left: int = 0
    """Characters of it that have left."""
    judged: int = 0
    """Characters of the last text that was allowed."""
    allowed: int = 0
    """Up to where it may leave."""
    finished: str | None = None
    """Its finish reason, once the upstream sent it."""
    over: bool = False
    """Whether nothing more of it leaves."""
    began: bool = False
    """Whether its role has left."""
    whole: bool = False
    """Whether what comes now leaves only with the end: from the first tool call on, and the finish reason."""
    waiting: deque[tuple[int, bool, dict[str, Any]]] = field(default_factory=deque)
    """Chunks with the place in the text where they end, and whether they wait for the whole reply."""
    seen: dict[str, str] = field(default_factory=dict)
    """Names of the fields that held words, with their kinds; for receipts."""
    texts: dict[str, str] = field(default_factory=dict)
    """What it said so far by kind of part."""
    _field: str = ""
    """The field that spoke last: words of two fields are two lines."""

    def take(self, choice: Mapping[str, Any], chunk: dict[str, Any]) -> None:
        """A chunk of this choice from the upstream."""
        for surface in words_of(choice):
            self._hear(surface)
        finish = choice.get("finish_reason")
        if finish is not None:
            self.finished = str(finish)
            self.whole = True
        self.waiting.append((len(self.text), self.whole, chunk))

    def _hear(self, surface: ContentPart) -> None:
        self.seen.setdefault(surface.place, surface.kind)
        if surface.text and self.text and surface.place != self._field:
            self.text += "\n"
        self._field = surface.place if surface.text else self._field
        if surface.kind == "tool call":
            self.whole = True
        self.text += surface.text
        self.texts[surface.kind] = self.texts.get(surface.kind, "") + surface.text

    @property
    def apart(self) -> tuple[str, ...]:
        """The parts of `text` that are judged by themselves, too."""
        return by_themselves(self.texts, self.text)

    @property
    def unjudged(self) -> int:
        """Characters since the last check."""
        return len(self.text) - self.judged

    def due(self, every: int) -> bool:
        """Whether it is time for a check: after so many new characters, and rarely while base64 is coming in.

        Each check reads everything anew. A picture of a megabyte in pieces would be read thousands of times; while one
        comes in, the text must have grown by a quarter since the last check.
        """
        return self.unjudged >= every and (self.unjudged * 4 >= self.judged or not in_blob(self.text))

    def allow(self, *, final: bool) -> None:
        """A check allowed the text as it stands.

        Args:
            final: whether the reply is complete.
        """
        self.judged = len(self.text)
        self.allowed = self.judged if final else max(self.allowed, self.judged - self.hold)

    def leave(self, *, final: bool) -> list[dict[str, Any]]:
        """The chunks that may leave now, in order; what says nothing yet leaves with the first word that may."""
        found = []
        while self.waiting:
            end, whole, chunk = self.waiting[0]
            if not final and (whole or end > self.allowed):
                break
            self.waiting.popleft()
            self.left = end
            self.began = True
            found.append(chunk)
        return found
