"""Words with letters doubled or hidden: `bboommbb`, `sooo`, `b*mb`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from equipoise.guard.normalisation.vocabulary import WORD, is_word, ranks

_HIDDEN: Final = re.compile(r"(?<![\w*])(?=[A-Za-z*]*[A-Za-z][*]+[A-Za-z])[A-Za-z*]{3,20}(?![\w*])")
"""A word with a star between two of its letters."""
_RUN: Final = re.compile(r"([A-Za-z])\1+", re.IGNORECASE)
_PAIRS: Final = re.compile(r"(?:([A-Za-z])\1)+", re.IGNORECASE)
LEAST: Final = 3
"""Words that must be written so before any is read otherwise."""
SHARE: Final = 0.2
"""Share of a text's words with doubled letters, from which on they are read without."""


def spelt(text: str) -> str:
    """A text with its hidden letters found and its doubled letters single, where many words are written so."""
    hidden = _HIDDEN.findall(text) if text.count("*") >= LEAST else []
    if len(hidden) >= LEAST:
        read = {word: _looked_up(word.lower()) for word in dict.fromkeys(hidden)}
        text = _HIDDEN.sub(lambda match: read.get(match[0]) or match[0], text)
    words = WORD.findall(text)
    changed: Mapping[str, str] = {word: single for word in dict.fromkeys(words) if (single := _single(word)) != word}
    number = sum(word in changed for word in words)
    if number < max(LEAST, SHARE * len(words)):
        return text
    return WORD.sub(lambda match: changed.get(match[0], match[0]), text)


def _single(word: str) -> str:
    """A word that is none without its doubled letters, if it is one then."""
    if _RUN.search(word) is None or is_word(word):
        return word
    candidates = [_PAIRS.sub(lambda match: match[0][::2], word)] if _PAIRS.fullmatch(word) else []
    candidates += [_RUN.sub(r"\1", word), _RUN.sub(r"\1\1", word)]
    return next(filter(is_word, candidates), candidates[0] if len(candidates) == 3 else word)


def misspelt_in(text: str) -> tuple[int, int, int]:
    """How many words of a text have hidden letters, how many doubled ones, and how many words there are."""
    words = WORD.findall(text)
    return len(_HIDDEN.findall(text)), sum(_single(word) != word for word in words), len(words)


@lru_cache(maxsize=1)
def _by_length() -> Mapping[int, tuple[list[str], Mapping[tuple[int, str], int]]]:
    """All words of each length, the most frequent first, and which of them have a letter in a place, as bits.

    Bit b stands for word b of that length. So a word is found by a few products of numbers, and not by a search through
    all words: a text may have tens of thousands of hidden ones.
    """
    lengths: dict[int, tuple[list[str], dict[tuple[int, str], int]]] = {}
    for word in ranks():
        words, places = lengths.setdefault(len(word), ([], {}))
        for position in enumerate(word):
            places[position] = places.get(position, 0) | 1 << len(words)
        words.append(word)
    return lengths


def _looked_up(hidden: str) -> str | None:
    """The most frequent word with these letters in these places."""
    # Stars on both sides are emphasis.
    if hidden.startswith("*") and hidden.endswith("*"):
        return None
    words, places = _by_length().get(len(hidden), ([], {}))
    fitting = (1 << len(words)) - 1
    for position in enumerate(hidden):
        if position[1] != "*":
            fitting &= places.get(position, 0)
    # The lowest bit that is set.
    return words[(fitting & -fitting).bit_length() - 1] if fitting else None
