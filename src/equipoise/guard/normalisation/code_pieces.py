"""Text that a program puts together: strings in pieces, calls that make single letters, comments within words."""

from __future__ import annotations

import re
from typing import Final

from equipoise.guard.normalisation.vocabulary import known_share, words_of

_JOINT: Final = re.compile(
    r"""(["'`])[ \t]*(?:(?:\+|\.\.?|&|\|\|)[ \t]*\\?(?:\r?\n[ \t]*)?|\\?\r?\n[ \t]*\+[ \t]*|[ \t])["'`]"""
)
_COMMENT: Final = re.compile(r"(?<=\w)/\*[^*]{0,40}\*/(?=\w)")
_CALLS: Final = re.compile(
    r"(?:\b(?:chr|char|unichr|fromCharCode)\(\s*(?:0x[0-9a-fA-F]{2}|\d{2,3})\s*\)[\s+.&|,]*){4,}", re.IGNORECASE
)
_CODE: Final = re.compile(r"\(\s*(0x[0-9a-f]{2}|\d{2,3})\s*\)", re.IGNORECASE)
JOINTS: Final = 4
"""Joints in a text from which on they are undone; fewer stand in ordinary programs."""


def joined_pieces(text: str) -> str:
    """A text with strings that stand in pieces put together, where there are many of them."""
    text = called(text)
    if any(quote in text for quote in "\"'`") and len(_JOINT.findall(text)) >= JOINTS:
        # Quotes may also stand around each word: what gives more English is taken.
        joined, apart = _JOINT.sub("", text), _JOINT.sub(" ", text)
        text = joined if known_share(words_of(joined)) > known_share(words_of(apart)) else text
    return text


def called(text: str) -> str:
    """A text without comments within words and with the letters that calls make."""
    if "/*" in text:
        text = _COMMENT.sub("", text)
    if "(" in text:
        text = _CALLS.sub(lambda match: " " + "".join(map(_letter, _CODE.findall(match[0]))) + " ", text)
    return text


def joints_in(text: str) -> int:
    """How many joints of strings a text has."""
    return len(_JOINT.findall(text))


def _letter(code: str) -> str:
    return chr(int(code, 16) if code[:2].lower() == "0x" else int(code))
