"""`last_cut`: where a growing text can be cut so that no pattern of its readings reaches over the cut."""

from __future__ import annotations

import re
from typing import Final

from equipoise.guard.normalisation.encodings import names_letter

_CUT: Final = re.compile(r"(?<=[^\W\d_][^\W\d_])(?:[.!?:;][ \n]|[)。！？]\n)(?=[!-~])")
"""The end of a sentence or of a line behind a word, before an ASCII character."""
_END: Final = re.compile(r"([^\W_]*[^\W\d_]{2})(?:[.!?:;][ \n]|[)。！？!?]\n)\Z")
_HEX: Final = re.compile(r"[0-9A-Fa-f]{2}\Z")
REACH: Final = 2200
"""Characters before a cut that are looked at: no pattern that has begun further back can go on behind it."""
TRIED: Final = 8
"""Positions that are tried, from the last one on."""
LAST_WORD: Final = 64
"""Characters at the end of a text that show its last word; a longer one is no name of a letter."""
_ANNOTATION: Final = re.compile(r"<r[tp]", re.IGNORECASE)


def last_cut(text: str, start: int) -> int:
    """The last position behind `start` where a text as it stands can be cut; `start` where there is none.

    Args:
        text: so far; what follows may be anything.
        start: the cut before.
    """
    cuts = [match.end() for match in _CUT.finditer(text, start)]
    for cut in cuts[: -TRIED - 1 : -1]:
        if ends_apart(text[max(0, cut - REACH) : cut]):
            return cut
    return start


def ends_apart(before: str) -> bool:
    """Whether no pattern that matches the end of a text can go on behind it.

    Two letters and a full stop or the like end spaced letters, base64, groups of base64, Morse, character codes and
    strings in pieces. Words of NATO's alphabet and hex pairs go on behind some of these, and what stands in brackets
    goes on until they are closed.

    Args:
        before: the last `REACH` characters of a text, as one step of the readings sees it.
    """
    # Only so far back: on a run of letters of that length the search would take the square of it.
    end = _END.search(before[-LAST_WORD:])
    if end is None or names_letter(end[1]) or _HEX.search(end[1]):
        return False
    opened = any(before.rfind(sign) > before.rfind(other) for sign, other in ("<>", "[]", "{}"))
    comment = "<!--" in before or "/*" in before[-60:]
    return not opened and not comment and _ANNOTATION.search(before[-300:]) is None
