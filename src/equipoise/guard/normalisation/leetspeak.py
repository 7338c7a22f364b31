"""Digits and signs that stand for letters: `b0mb`, `expl0$1v3`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

from equipoise.guard.normalisation.vocabulary import is_word

LETTERS: Final = {
    "0": "o",
    "1": "il",
    "2": "z",
    "3": "e",
    "4": "a",
    "5": "s",
    "6": "gb",
    "7": "t",
    "8": "b",
    "9": "g",
} | {
    "@": "a",
    "$": "s",
    "!": "i",
    "|": "li",
    "+": "t",
    "(": "c",
    "<": "c",
    "€": "e",
    "£": "l",
    "¢": "c",
    "¥": "y",
    "%": "o",
    "#": "h",
    "§": "s",
}
"""What a sign may stand for, the likeliest letter first."""
_PAIRS: Final = (
    ("|-|", "h"),
    ("|_|", "u"),
    ("|\\/|", "m"),
    ("|\\|", "n"),
    ("\\/\\/", "w"),
    ("/\\/\\", "m"),
    ("\\/", "v"),
    ("/-\\", "a"),
    ("/\\", "a"),
    ("|<", "k"),
    ("|)", "d"),
    ("|>", "p"),
    ("()", "o"),
)
"""Signs that together draw a letter, the longest first."""
_TOKEN: Final = re.compile(r"\S+")
_EDGES: Final = ".,;:?\"')]}"
_LAST: Final = "!|"
"""Signs that are letters within a word, and punctuation behind one."""
DENSE: Final = 0.15
"""Share of tokens that mix letters with signs for letters, from which on a whole text is read so."""
DRAWN: Final = 3
"""Letters drawn with several signs, from which on a text draws."""
_MOST: Final = 16
"""Combinations of letters that are tried for one word."""


def draws(text: str) -> bool:
    """Whether a text draws letters with several signs, which a reading without markup would lose."""
    return drawn_letters(text) >= DRAWN


def drawn_letters(text: str) -> int:
    """How many letters are drawn with several signs that only a drawing has."""
    return sum(text.count(pair) for pair, _ in _PAIRS[:5])


def read(text: str) -> str:
    """A text with the signs in its words read as letters.

    Alone, a token is read so only if that makes a word of four letters or more of what is none; where many tokens mix
    letters and signs, all are, digits included.
    """
    text = undrawn(text)
    mixed, tokens = mixed_tokens(text)
    if not mixed:
        return text
    dense = mixed >= max(3, DENSE * tokens)
    return with_letters(text, dense=dense)


def undrawn(text: str) -> str:
    """A text with the letters that several signs draw within words."""
    for pair, letter in _PAIRS:
        if pair in text:
            # `exit()` is a call; within a word `()` is an o.
            before = rf"(?<=\w){re.escape(pair)}(?=\w)" if pair == "()" else rf"(?<=\w){re.escape(pair)}"
            after = "" if pair == "()" else rf"|{re.escape(pair)}(?=\w)"
            text = re.sub(before + after, letter, text)
    return text


def mixed_tokens(text: str) -> tuple[int, int]:
    """How many tokens mix letters with signs for letters, and how many tokens there are."""
    tokens = _TOKEN.findall(text)
    return sum(map(_mixes, tokens)), len(tokens)


def with_letters(text: str, *, dense: bool) -> str:
    """A text with the signs in its tokens as letters, one by one, or in all tokens where they are dense."""
    return _TOKEN.sub(lambda match: _word(match[0], dense=dense), text)


def _mixes(token: str) -> bool:
    core = token.strip(_EDGES + "(!")
    if core.isalpha():
        return False
    letters = sum(character.isalpha() for character in core)
    signs = sum(character in LETTERS for character in core)
    # `5kg` and `60fps` have their digits before all letters, `mp3` and `PS5` behind them.
    within = re.search(r"[A-Za-z][^A-Za-z]+[A-Za-z]", core) is not None
    return letters > 0 and signs > 0 and letters + signs == len(core) and (within or is_word(_plain(core)))


def _plain(token: str) -> str:
    return "".join(LETTERS.get(character, character)[0] for character in token)


def _word(token: str, *, dense: bool) -> str:
    begin = len(token) - len(token.lstrip("\"'([{"))
    for part in _beginnings(token[begin:].rstrip(_EDGES)):
        if not any(character in LETTERS for character in part) or not (dense or _mixes(part)):
            return token
        choices = [LETTERS.get(character, character.lower()) for character in part]
        candidates = ["".join(letters) for letters in itertools.islice(itertools.product(*choices), _MOST)]
        word = next(filter(is_word, candidates), None)
        if word is not None:
            break
    if dense:
        letters = candidates[0] if word is None and not part.isdigit() else word
    else:
        letters = word if word is not None and len(word) >= 4 else None
    return token if letters is None else f"{token[:begin]}{letters}{token[begin + len(part) :]}"


def _beginnings(core: str) -> Iterator[str]:
    """A token as it is, and without signs at its end: they may be punctuation (`b0mb!`), one or two of them not."""
    yield core
    bare = core.rstrip(_EDGES + _LAST)
    for kept in (2, 1, 0):
        length = len(bare) + kept
        if 2 <= length < len(core):
            yield core[:length]
