"""`readings`: the further texts as which one text can be read.

A text may be written so that people (or the client's program) read it and a detector does not. Each reading is judged
like the text, and the highest score counts, so that a reading can never make a text look more harmless. A text that
reads only one way has no reading and costs no second check.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from equipoise.guard.normalisation import leetspeak
from equipoise.guard.normalisation.ciphers import backwards, deciphered
from equipoise.guard.normalisation.code_pieces import joined_pieces
from equipoise.guard.normalisation.encodings import decoded
from equipoise.guard.normalisation.letter_gaps import joined
from equipoise.guard.normalisation.misspelt import spelt
from equipoise.guard.normalisation.typography import unified, without_markup
from equipoise.guard.normalisation.vocabulary import known_share, words_of

LARGEST: Final = 400_000
"""Characters of a text that has readings; detectors read no longer ones."""
DEPTH: Final = 3
"""Encodings within encodings that are undone."""
MARKED: Final = 0.3
"""Marks of emphasis to a word, from which on a text without them is a reading of its own; ordinary replies have 0.1."""
NOISY: Final = 1.0
"""Characters to a word that are neither letters nor spaces, from which on the bare words are a reading of their own."""
FEW: Final = 8
"""Marks or other characters that are too few to hide anything."""
_WORD: Final = re.compile(r"\w+")
_NOISE: Final = re.compile(r"[^\w\s]")
_STROKED: Final = str.maketrans("łđøıħŧ", "ldoiht")
"""Letters of Polish, Vietnamese, Danish and others that no accent falls from."""
ENGLISH: Final = 0.5
"""Share of letters in English words, from which on a text without strokes is what such letters hid."""


@dataclass(frozen=True)
class Reading:
    """One way to read a text."""

    name: str
    """`typography`, `decoded`, `backwards` or `leetspeak`; `json` is read by `json_words`."""
    text: str
    """What is read."""


def readings(text: str) -> tuple[Reading, ...]:
    """Further readings of a text, none of them twice; empty for ordinary text.

    Args:
        text: a reply or a request.
    """
    if len(text) > LARGEST or not text.strip():
        return ()
    plain, marks = _plain(text)
    words, stroked = compared_words(text), unstroked_words(text)
    several: list[Reading] = []

    def add(name: str, candidate: str) -> None:
        key = compared_words(candidate)
        if key == stroked and known_share(words_of(candidate)) < ENGLISH:
            return
        if key and key != words and all(key != compared_words(reading.text) for reading in several):
            several.append(Reading(name, candidate))

    add("typography", plain)
    hidden = text.isascii() or known_share(words_of(plain)) >= ENGLISH
    if not several and marks >= max(FEW, MARKED * len(words)) and hidden:
        # The words are the same, but so many marks between them hide them from a detector. Vietnamese has as many.
        several.append(Reading("typography", plain))
    inner, plains = text, {text: plain}
    for _ in range(DEPTH):
        outer, revealed = inner, decoded(inner)
        if revealed not in plains:
            plains[revealed] = _plain(revealed)[0]
        inner = deciphered(plains[revealed])
        if outer == inner:
            break
    add("decoded", inner)
    turned = backwards(plain)
    if turned is not None:
        add("backwards", turned)
    add("leetspeak", leetspeak.read(text if leetspeak.draws(text) else inner))
    if not several and words and noise(plain) >= max(FEW, NOISY * len(words)):
        several.append(Reading("typography", " ".join(_WORD.findall(plain))))
    return tuple(several)


def _plain(text: str) -> tuple[str, int]:
    """A text without typography, and how many marks and signs it had beside and between its letters."""
    text, accents = unified(text)
    text, marks = without_markup(spelt(joined_pieces(text)))
    text, signs = joined(text)
    return text, accents + marks + signs


def unstroked_words(text: str) -> list[str]:
    """The same of a text whose letters have lost their strokes."""
    return compared_words(text.lower().translate(_STROKED))


def noise(text: str) -> int:
    """Signs that are no letters; the vowels of Hindi and Thai, which are marks, are none."""
    return sum(unicodedata.category(sign)[0] != "M" for sign in _NOISE.findall(text))


def compared_words(text: str) -> list[str]:
    """The words, without case and accents, by which two texts are compared."""
    if not text.isascii():
        # Most tokenizers drop accents. NFD, not NFKD: a letter of full width is another token than a plain one.
        text = unicodedata.normalize("NFD", "".join(part for part in text if not unicodedata.combining(part)))
        text = "".join(part for part in text if not unicodedata.combining(part))
    return _WORD.findall(text.lower())
