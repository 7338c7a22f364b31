"""`growing_readings`: `readings` of a text that is read again and again as it grows, such as a streamed reply.

The result is always that of `readings`. As long as a text is ordinary, only its end is looked at (`ordinary`). A text
that has a further reading, or may have one, is read from its start each time; `reread_characters` says so.
"""

from __future__ import annotations

import copy
from typing import Final

from equipoise.guard.growing_store import GrowingStore
from equipoise.guard.normalisation.cuts import last_cut
from equipoise.guard.normalisation.ordinary import TextSums, sums_of
from equipoise.guard.normalisation.readings import LARGEST, Reading, readings

SHORT: Final = 400
"""Characters of a text that is always read from its start."""
LONGEST_END: Final = 4000
"""Characters of an end that is looked at again; where no place to cut was found for longer, the text is read whole."""


class GrowingText:
    """A text so far, with what is known of its beginning.

    Args:
        text: so far.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.result = readings(text)
        self.is_reread = False
        """Whether more was read than the end when the text had grown."""
        self._settled = 0
        """Where the part begins that is looked at again."""
        self._sums: TextSums | None = TextSums()
        """Of what is before; None if it has a reading by itself, and so each longer text may have one."""

    def grow(self, text: str) -> None:
        """Read a longer text that begins with this one.

        Args:
            text: all of it.
        """
        ordinary = self._is_ordinary(text)
        self.result = () if ordinary else readings(text)
        self.text, self.is_reread = text, not ordinary

    def _is_ordinary(self, text: str) -> bool:
        if self._sums is None or len(text) > LARGEST:
            return False
        cut = last_cut(text, self._settled)
        if cut > self._settled:
            part = sums_of(text[self._settled : cut])
            if part is None:
                self._sums = None
                return False
            self._sums.add(part)
            self._settled = cut
        end = sums_of(text[cut:]) if len(text) - cut <= LONGEST_END else None
        if end is None:
            return False
        whole = copy.deepcopy(self._sums)
        whole.add(end)
        return whole.has_no_reading()


_TEXTS: Final[GrowingStore[GrowingText]] = GrowingStore()


def growing_readings(text: str) -> tuple[Reading, ...]:
    """`readings` of a text that may have been read before, when it was shorter.

    Args:
        text: a reply or a request.
    """
    return _read(text).result


def reread_characters(text: str) -> int:
    """How many characters of a text were read again when it had grown; 0 where only its end was.

    Args:
        text: one that was given to `growing_readings` before.
    """
    known = _TEXTS.take(text) if len(text) >= SHORT else None
    if known is None:
        return 0
    _TEXTS.put(known)
    return len(text) if known.is_reread and known.text == text else 0


def _read(text: str) -> GrowingText:
    if len(text) < SHORT:
        return GrowingText(text)
    known = _TEXTS.take(text)
    if known is None:
        known = GrowingText(text)
    elif known.text != text:
        known.grow(text)
    _TEXTS.put(known)
    return known
