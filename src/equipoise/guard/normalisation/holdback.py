"""How much of a text's end says as much as some ordinary characters; streams hold that much back."""

from __future__ import annotations

import re
from typing import Final

TELLING: Final = 0.5
"""Letters and digits to a character, at least, in ordinary text and code; English has 0.8, code 0.6."""
_UNIT: Final = re.compile(
    r"<[^<>]{0,300}>|\x1b\[[0-9;]{0,20}[A-Za-z]|\[/?(?:b|i|u|s|color|size|font)(?:=[^\[\]]{0,100})?\]"
    r"|\b(?:chr|char|unichr|fromCharCode)\(\s{0,9}(?:0x[0-9A-F]{2}|\d{2,3})\s{0,9}\)|%[0-9A-F]{2}"
    r"|\\U[0-9A-F]{8}|\\u\{?[0-9A-F]{1,6}\}?|\\x[0-9A-F]{2}|\bU\+[0-9A-F]{4,6}|\b0x[0-9A-F]{2}"
    r"|\\N\{[A-Z -]{0,60}\}|\\[0-9A-F]{2,6} |\\[0-7]{3}|&#\w{1,8};?|&\w{1,8};|\b\d{2,8}\b",
    re.IGNORECASE,
)
"""What stands for one character, or for none: a tag, an escape, a number that may be a character's code."""
_RUN: Final = re.compile(r"[A-Za-z0-9+/]{40,}")
"""Letters in a row that may be base64 or hex, of which up to three make one letter."""


def holdback_start(text: str, hold: int) -> int:
    """The position behind which a text says as much as `hold` ordinary characters; 0 where all of it says less.

    Args:
        text: so far.
        hold: characters of ordinary text.
    """
    start = max(0, len(text) - hold)
    needed = int(hold * TELLING)
    # Spaced letters, invisible characters and escapes take many characters for each letter: 240 of them may be two
    # words, too little to judge what came before by. The start goes back until enough letters follow it.
    while start and (missing := needed - _telling(text[start:])) > 0:
        start = max(0, start - max(missing, len(text) - start))
    return start


def _telling(tail: str) -> int:
    """Letters and digits, those of what is encoded counted as what it stands for."""
    tail = _UNIT.sub(lambda match: "" if match[0][0] in "<[\x1b" else "x", tail)
    tail = _RUN.sub(lambda match: "x" * (len(match[0]) // 3), tail)
    return sum(map(str.isalnum, tail))
