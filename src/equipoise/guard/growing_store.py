"""`GrowingStore`: what is known of texts that are read again and again as they grow, such as streamed replies."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, Protocol, TypeVar

KEPT: Final = 128
"""Texts that are remembered."""
CHARACTERS: Final = 4_000_000
"""Characters of all texts that are remembered: each takes several bytes, in readings and in token ids."""


class _HasText(Protocol):
    text: str


Growing = TypeVar("Growing", bound=_HasText)
"""What is known of a text, with the text itself."""


class GrowingStore(Generic[Growing]):
    """Remembers what was known last; threads may share it.

    Texts are found by what they say, not by whose they are: nobody has to carry anything from check to check.

    Args:
        most: texts; those that were read the longest time ago are dropped.
        characters: of all texts.
    """

    def __init__(self, most: int = KEPT, characters: int = CHARACTERS) -> None:
        self._most, self._characters = most, characters
        self._known: OrderedDict[int, Growing] = OrderedDict()
        self._lock = threading.Lock()
        self._total = self._next = 0

    def take(self, text: str) -> Growing | None:
        """Remove and return what is known of the longest text that this one begins with; None if there is none.

        Whoever takes it has it alone until `put`; another thread meanwhile finds nothing and reads its text anew.
        """
        with self._lock:
            begun = [number for number, known in self._known.items() if text.startswith(known.text)]
            if not begun:
                return None
            known = self._known.pop(max(begun, key=lambda number: len(self._known[number].text)))
            self._total -= len(known.text)
            return known

    def put(self, known: Growing) -> None:
        """Remember what is known of a text."""
        with self._lock:
            self._next += 1
            self._known[self._next] = known
            self._total += len(known.text)
            while len(self._known) > self._most or self._total > self._characters:
                _, oldest = self._known.popitem(last=False)
                self._total -= len(oldest.text)
