"""English words with their ranks, from the vocabulary of the embedded detector, which lists frequent words first."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

TOKENIZER: Final = Path(__file__).parent.parent / "weights" / "tokenizer.json"
WORD: Final = re.compile(r"[A-Za-z]+")
_SHORT: Final = "a i am an as at be by do go he if in is it me my no of on or so to up us we ok"
"""Words of one or two letters; the vocabulary holds every pair of letters."""
_LONGEST: Final = 20
"""Letters of the longest word that `segmented` looks for."""
_THREE: Final = 6000
"""Rank up to which a word of three letters counts: rarer ones are abbreviations, and any three letters are one."""


@lru_cache(maxsize=1)
def ranks() -> Mapping[str, int]:
    """Lower-case words with their positions, the most frequent first."""
    pieces = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]["vocab"]
    short = _SHORT.split()
    words = [piece for piece in sorted(pieces, key=pieces.__getitem__) if piece.isascii() and piece.isalpha()]
    words = [word for word in words if len(word) > 2 or word in short]
    return {word: rank for rank, word in enumerate(words) if len(word) != 3 or rank < _THREE}


def is_word(text: str) -> bool:
    """Whether a text is one English word; its case does not count."""
    return text.lower() in ranks()


def known_share(words: Sequence[str]) -> float:
    """The share of words that are English, by their letters; 0 where there are none."""
    letters = sum(map(len, words))
    english = ranks()
    # One look at a table for each word, and no call: every reading of every reply is measured by this.
    return sum([len(word) for word in words if word.lower() in english]) / letters if letters else 0.0


def words_of(text: str) -> list[str]:
    """The words in ASCII letters."""
    return WORD.findall(text)


@lru_cache(maxsize=1)
def _costs() -> Mapping[str, float]:
    # Zipf's law: the word of rank r has a probability of about 1 / (r log n).
    scale = math.log(len(ranks()))
    return {word: math.log((rank + 2) * scale) for word, rank in ranks().items()}


def segmented(letters: str) -> str:
    """Words in letters without spaces, the likeliest by their ranks; letters that are in no word stay together.

    Args:
        letters: ASCII letters.
    """
    costs, lower = _costs(), letters.lower()
    # Viterbi over ends of words: `best[end]` is the cost of the cheapest split of the first `end` letters. A letter
    # outside of every word costs more than any word, so that it is used only where nothing else fits.
    best, begins = [0.0], [0]
    for end in range(1, len(lower) + 1):
        options = [(best[end - 1] + 25.0, end - 1)]
        options += [
            (best[begin] + costs[lower[begin:end]], begin)
            for begin in range(max(0, end - _LONGEST), end)
            if lower[begin:end] in costs
        ]
        cost, begin = min(options)
        best.append(cost)
        begins.append(begin)
    words: list[str] = []
    end = len(letters)
    while end:
        words.append(letters[begins[end] : end])
        end = begins[end]
    return " ".join(_together(reversed(words)))


def _together(words: Iterable[str]) -> list[str]:
    """Words, with single letters that are none joined to one."""
    parts: list[str] = []
    alone = False
    for word in words:
        lonely = len(word) == 1 and not is_word(word)
        if lonely and alone:
            parts[-1] += word
        else:
            parts.append(word)
        alone = lonely
    return parts
