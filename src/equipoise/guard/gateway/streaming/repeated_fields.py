"""`RepeatedFields`: what is new in the fields that a server sends again, and longer, with every chunk.

Perplexity sends the sources and the whole message so far with each chunk. Read as new text each time, a reply of n
chunks would be n * n / 2 chunks long. A repeated text is counted once; of one that grew, only what was added.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

SURE: Final = 16
"""Characters from which on an equal text is a repetition and not chance, as it is in a stream of single words."""


@dataclass
class RepeatedFields:
    """The fields of one choice of a stream, by path."""

    _latest: dict[str, list[str]] = field(default_factory=dict)
    """The texts of each field in the last chunk that had it."""
    _known: set[int] = field(default_factory=set)
    """Hashes of long texts that were counted."""
    _running: dict[str, str] = field(default_factory=dict)
    """The text so far of each field that is sent in pieces."""

    def new(self, path: str, texts: list[str], spoken: Iterable[str]) -> list[str]:
        """The new texts of a field that each chunk repeats.

        Args:
            path: of the field.
            texts: in it now.
            spoken: texts that are judged anyway, such as the content so far.
        """
        latest = self._latest.get(path, [])
        self._latest[path] = texts
        spoken = list(spoken)
        added: list[str] = []
        for number, text in enumerate(texts):
            before = latest[number] if number < len(latest) else ""
            # Equal to the last chunk's text, or said before in any field: nothing new. Short texts are never "known",
            # because a stream of single words repeats words by chance, and dropping one could hide half of a harmful
            # phrase.
            if text == before or self._is_known(text, spoken):
                continue
            if before and text.startswith(before):
                # Joined to the text before it, as the field itself is.
                added.append(text[len(before) :])
            else:
                added.append(f"\n{text}" if number or len(latest) > 1 else text)
        return added

    def _is_known(self, text: str, spoken: Collection[str]) -> bool:
        if text in spoken:
            return True
        if len(text) < SURE:
            return False
        key = hash(text)
        if key in self._known or any(text in other for other in spoken):
            return True
        self._known.add(key)
        return False

    def continued(self, path: str, text: str) -> str:
        """The new text of an unknown field of a delta, which comes in pieces or whole each time."""
        before = self._running.get(path, "")
        if len(before) >= SURE and text.startswith(before):
            self._running[path] = text
            return text[len(before) :]
        self._running[path] = before + text
        return text
