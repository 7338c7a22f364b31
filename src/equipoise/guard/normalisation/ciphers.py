"""Text in a letter cipher (rot13 and every other shift, Atbash) or backwards, recognised by the words that it gives."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from equipoise.guard.normalisation.vocabulary import is_word, known_share, ranks, words_of

_CHUNK: Final = re.compile(r"[^.!?:;\n\"]+[.!?:;\n\"]*")
_AY: Final = re.compile(r"\b([A-Za-z]+?)(?:w|y)?ay\b")
LEAST: Final = 12
"""Letters of a chunk that is looked at; fewer prove nothing."""
ENGLISH: Final = 0.55
"""Share of letters in known words of a text that is English."""
FOREIGN: Final = 0.4
"""Share below which a text is not."""
SAMPLE: Final = 24
"""Words of a chunk on which the ciphers are tried."""


@lru_cache(maxsize=1)
def _shifts() -> tuple[dict[int, int], ...]:
    low, high = string.ascii_lowercase, string.ascii_uppercase
    shifts = [
        str.maketrans(low + high, low[by:] + low[:by] + high[by:] + high[:by])
        # rot13 first: it is the usual shift, and the first one that gives English ends the search.
        for by in (13, *range(1, 13), *range(14, 26))
    ]
    return (*shifts, str.maketrans(low + high, low[::-1] + high[::-1]))


def _from_its_end(text: str) -> str:
    return text[::-1]


def _words_backwards(text: str) -> str:
    return re.sub(r"[A-Za-z]+", lambda match: match[0][::-1], text)


def _ciphers(chunk: str) -> Iterator[Callable[[str], str]]:
    # Both ways give the same words. A capital at the end of an early word was at the beginning of its sentence, so only
    # the words are backwards.
    capital = re.search(r"[a-z][A-Z]\b", chunk)
    by_word = capital is not None and capital.start() * 2 < len(chunk)
    yield from (_words_backwards, _from_its_end) if by_word else (_from_its_end, _words_backwards)
    for table in _shifts():
        # Bound as a default: a closure would see the table of the last round.
        yield lambda text, table=table: text.translate(table)  # type: ignore[misc]


def rot47(text: str) -> str:
    """A text with each printable sign 47 places on."""
    return text.translate({code: 33 + (code + 14) % 94 for code in range(33, 127)})


def _every_other(text: str) -> str:
    """A text without the sign that stands behind each of its characters."""
    between = text[1::2]
    most, number = Counter(between).most_common(1)[0] if len(text) >= LEAST else ("", 0)
    return text[::2] if most.strip() and number >= 0.95 * len(between) else text


def _from_pig_latin(text: str) -> str:
    """A text whose words lost their first consonants to an end in `ay`."""

    def of(match: re.Match[str]) -> str:
        stem = match[1]
        words = [stem[len(stem) - moved :] + stem[: len(stem) - moved] for moved in range(4)]
        words = [word for word in words if is_word(word)]
        return min(words, key=lambda word: ranks()[word.lower()]) if words else match[0]

    return _AY.sub(of, text) if pig_words(text) >= max(6, 0.5 * len(words_of(text))) else text


def pig_words(text: str) -> int:
    """How many words end as in pig latin."""
    return len(_AY.findall(text))


def deciphered(text: str) -> str:
    """A text with those of its sentences deciphered that are English only then."""
    words = words_of(text)
    for cipher in (_from_pig_latin, _every_other, rot47) if known_share(words) < FOREIGN else ():
        plain = cipher(text)
        if plain != text and known_share(words_of(plain)) >= ENGLISH:
            return plain
    if sum(map(len, words)) >= LEAST and known_share(words) < FOREIGN and (plain := _best(text)) != text:
        return plain
    return by_chunks(text)


def by_chunks(text: str) -> str:
    """A text with those of its sentences deciphered that are no English as they stand."""
    chunks = [match[0] for match in _CHUNK.finditer(text)]
    samples: dict[int, str] = {}
    for number, chunk in enumerate(chunks):
        words = words_of(chunk)
        if sum(map(len, words)) >= LEAST and known_share(words) < FOREIGN:
            samples[number] = " ".join(words[:SAMPLE])
    if not samples:
        return text
    fitting = iter(_that_fit(list(samples.values())))
    parts = [_best(chunk) if number in samples and next(fitting) else chunk for number, chunk in enumerate(chunks)]
    # What stands before the first chunk is no part of any.
    return text[: len(text) - sum(map(len, chunks))] + "".join(parts)


def _that_fit(samples: Sequence[str]) -> list[bool]:
    """Whether some cipher makes English of each of many samples.

    Each cipher is tried on all samples at once, so that thousands of sentences take little longer than one: a budget
    of sentences could be spent on nonsense that stands before the one that counts.
    """
    fit = [False] * len(samples)
    for table in (None, *_shifts()):
        open_samples = [number for number, known in enumerate(fit) if not known]
        if not open_samples:
            break
        together = "\n".join(samples[number] for number in open_samples)
        # Read from its end, the words of the last sample come first.
        read = together[::-1].split("\n")[::-1] if table is None else together.translate(table).split("\n")
        for number, line in zip(open_samples, read, strict=True):
            fit[number] = known_share(line.split(" ")) >= ENGLISH
    return fit


def backwards(text: str) -> str | None:
    """A whole text read from its end, if only that makes it English; None otherwise."""
    words = words_of(text)
    if sum(map(len, words)) < LEAST or known_share(words) >= FOREIGN:
        return None
    turned = text[::-1]
    return turned if known_share(words_of(turned)) >= ENGLISH else None


def _best(chunk: str) -> str:
    # Some thirty ciphers are tried on a few words, and only the one that fits is applied to the whole chunk.
    sample = " ".join(words_of(chunk)[:SAMPLE])
    cipher = next((cipher for cipher in _ciphers(chunk) if fits(cipher, sample)), None)
    return chunk if cipher is None else cipher(chunk)


def fits(cipher: Callable[[str], str], sample: str) -> bool:
    """Whether a cipher makes English of some words."""
    return known_share(words_of(cipher(sample))) >= ENGLISH


@lru_cache(maxsize=32)
def any_fits(sample: str) -> bool:
    """Whether any shift, or reading letters from their end, makes English of some words."""
    return any(fits(cipher, sample) for cipher in _ciphers(sample))
