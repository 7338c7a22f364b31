"""`growing_readings`: `readings` of a text that is read again and again as it grows, such as a streamed reply.

The result is always that of `readings`. As long as a text is ordinary, or has no other reading than without its
typography, only its end is looked at (`ordinary`). Every other text is read from its start each time;
`reread_characters` says so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from equipoise.guard.growing_store import GrowingStore
from equipoise.guard.normalisation.cuts import REACH, ends_apart, last_cut
from equipoise.guard.normalisation.ordinary import ReadPart, TextSums, read_part
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
        """Where the part begins that is looked at again; the rest is about what is before it."""
        self._is_hopeless = False
        """Whether it has another reading than its typography, and so each longer text may have one."""
        self._sums = TextSums()
        self._plain = ""
        self._words: list[str] = []
        self._plain_words: list[str] = []
        self._tails: tuple[str, ...] = ()
        """The end after each step of the readings."""

    def grow(self, text: str) -> None:
        """Read a longer text that begins with this one.

        Args:
            text: all of it.
        """
        result = None if self._is_hopeless or len(text) > LARGEST else self._by_parts(text)
        self.result = readings(text) if result is None else result
        self.text, self.is_reread = text, result is None

    def _by_parts(self, text: str) -> tuple[Reading, ...] | None:
        """The readings of a longer text; None if they have to be found in the whole of it."""
        cut = last_cut(text, self._settled)
        if cut > self._settled:
            part = read_part(text[self._settled : cut])
            if part is None:
                self._is_hopeless = True
                return None
            self._settle(part, cut)
        end = read_part(text[self._settled :]) if len(text) - self._settled <= LONGEST_END else None
        if end is None:
            return None
        sums = TextSums()
        sums.add(self._sums)
        sums.add(end.sums)
        if not sums.changes_nothing():
            return None
        words, plain_words = self._words + end.words, self._plain_words + end.plain_words
        if plain_words == words:
            return () if sums.hides_nothing() else None
        if not plain_words or sums.stroked:
            return None
        return (Reading("typography", self._plain + end.plain),)

    def _settle(self, part: ReadPart, cut: int) -> None:
        """Take a part for good, unless a pattern of some step may go on behind it."""
        before = self._tails or ("",) * len(part.steps)
        tails = tuple((tail + step)[-REACH:] for tail, step in zip(before, part.steps, strict=True))
        if not all(map(ends_apart, set(tails))):
            return
        self._settled, self._tails = cut, tails
        self._sums.add(part.sums)
        self._plain += part.plain
        self._words += part.words
        self._plain_words += part.plain_words


_TEXTS: Final[GrowingStore[GrowingText]] = GrowingStore()


def growing_readings(text: str) -> tuple[Reading, ...]:
    """`readings` of a text that may have been read before, when it was shorter.

    Args:
        text: a reply or a request.
    """
    if len(text) < SHORT:
        return _short_readings(text)
    known = _TEXTS.take(text)
    if known is None:
        known = GrowingText(text)
    elif known.text != text:
        known.grow(text)
    # Before `put`: after it another thread may take what is known, and let it grow.
    result = known.result
    _TEXTS.put(known)
    return result


@lru_cache(maxsize=256)
def _short_readings(text: str) -> tuple[Reading, ...]:
    """Those of a short text; each check of a stream asks for its question's again."""
    return readings(text)


def reread_characters(text: str) -> int:
    """How many characters of a text were read again when it had grown; 0 where only its end was.

    Args:
        text: one that was given to `growing_readings` before.
    """
    known = _TEXTS.take(text) if len(text) >= SHORT else None
    if known is None:
        return 0
    count = len(text) if known.is_reread and known.text == text else 0
    _TEXTS.put(known)
    return count
