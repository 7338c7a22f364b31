"""Pictures and other bytes that stand in texts: data URLs and base64, told apart from words.

A picture of a megabyte is more than a million characters of base64. Read as words it takes a detector minutes and
says nothing. But a text must not get past a detector by calling itself base64, so what a data URL says about itself
counts for nothing: each stretch of characters is looked at by itself.

- Base64 of compressed or encrypted bytes uses its 64 symbols about equally often. No language does, however its case
  or some of its letters are changed: over `WINDOW` characters Pearson's chi-square against equal frequencies is 63 with
  a standard deviation of 11 for such bytes, and far above for words. Stretches that pass are not words.
- A stretch of one or two symbols over and over, as empty areas of pictures give it, holds no words either.
- Pictures that are not compressed, palettes and headers use their symbols unevenly. Where the first bytes are those of
  a known format, a stretch is kept only if it also has the pairs of letters that words have.
- What decodes to text is replaced by that text and judged.
- All else stays and is judged as it stands.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from equipoise.guard.normalisation.encodings import from_base64, text_of

SHORTEST: Final = 60
"""Characters in a row from which on they may be base64; lines of mails and certificates have 64 or 76."""
WINDOW: Final = 64
"""Characters that are judged together."""
STEP: Final = 32
"""From one window to the next: each character but the outermost is in two, and one that looks like words keeps it."""
EVEN: Final = 105.0
"""Chi-square up to which a window has its 64 symbols about equally often; of random bytes 7 in 10,000 are above."""
MONOTONE: Final = 0.75
"""Share of a window that its two most frequent symbols have where it says nothing."""
PAIRS: Final = 10
"""Frequent pairs of letters in a window of words, at least: English has about 28 in 64 letters, random bytes 3."""
DEPTH: Final = 3
"""Texts in texts: what is still encoded then is read as it stands."""
LARGEST_TEXT: Final = 400_000
"""Characters of all texts that are decoded from one text; beyond that the rest stays encoded."""
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# One pass finds every run of base64, with its data URL where it has one. Line breaks inside are allowed, as mails wrap
# at 76 characters, but only between long lines: a loose rule would take a list of words for one run.
_RUN: Final = re.compile(
    rf"(?P<head>(?i:data):(?P<media>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^,;\s\"']{{0,200}}){{0,8}}(?P<coded>;(?i:base64))?,)?"
    rf"(?P<run>[A-Za-z0-9+/_-]{{{SHORTEST},}}={{0,2}}(?:\\?[\r\n]+[A-Za-z0-9+/_-]{{{SHORTEST},}}={{0,2}})*"
    r"(?:\r?\n[A-Za-z0-9+/_-]{1,76}={0,2}(?![\w+/-]))?)"
)
# Without regard to case `[A-Z]` would also take letters of Turkish and German that are not ASCII.
_SHORT: Final = re.compile(
    r"(?i:data):(?P<media>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^,;\s\"']{0,200}){0,8};(?i:base64),(?P<run>[A-Za-z0-9+/_-]{4,}={0,2})"
)
_ESCAPED: Final = re.compile(r"(?i:data):(?:[\w.+-]+/[\w.+-]+)?(?:;[\w.+=-]+)*,(?P<body>[^\s\"'<>)]*)")
"""A data URL, taken as a whole; whether it is percent-encoded is asked afterwards, once."""
_PERCENT: Final = re.compile(r"%[0-9A-Fa-f]{2}")
# The commonest pairs of letters in English text. Bytes in base64 have each of the 4096 pairs equally often, so these
# show up in them by chance only.
_FREQUENT: Final = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic "
    "ne ea ra ce li ch ll be ma si om ur"
)
_FORMATS: Final = (b"%PDF", b"PK\x03\x04", b"RIFF", b"OggS", b"ID3", b"\x1f\x8b", b"\x1a\x45\xdf\xa3", b"fLaC")
_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
_TAIL: Final = re.compile(rf"[A-Za-z0-9+/=_-]{{{SHORTEST}}}\Z")
_URL: Final = re.compile(r"\s*(?i:data:image)/[\w.+-]+(?:;[\w=.+-]+)*;(?i:base64),[A-Za-z0-9+/=_-]+\s*\Z")
LONG: Final = 50_000
"""Characters that take longer than the event loop should wait."""
_WORDS: Final = re.compile(r"[^\W_]{2}")
Kind = Literal["picture", "opaque"]
logger = logging.getLogger("equipoise.gateway")


@dataclass(frozen=True)
class Blob:
    """Bytes that stand in a text."""

    kind: Kind
    """A picture, by its own first bytes or by what its data URL says; or anything else that holds no words."""
    characters: int
    """Of its text that were not read."""


@dataclass(frozen=True)
class Read:
    """The words of a text, and the stretches of bytes that were taken out of it."""

    words: str
    """What is judged: all that may be words, texts that were encoded in it decoded."""
    blobs: tuple[Blob, ...] = ()
    """What was taken out, in order."""

    @property
    def says_nothing(self) -> bool:
        """Whether next to nothing is left of what was taken out: no word, or a fiftieth of it, as chance leaves."""
        taken = sum(blob.characters for blob in self.blobs)
        return bool(self.blobs) and (len(self.words) * 50 < taken or _WORDS.search(self.words) is None)


def read(text: str, depth: int = DEPTH) -> Read:
    """A text apart from the bytes in it.

    Args:
        text: anybody's.
        depth: how often what was decoded is looked at again.
    """
    # Nearly all texts leave here, before any pattern is tried.
    if len(text) < SHORTEST and "base64" not in text and "data:" not in text.lower():
        return Read(text)
    try:
        return _read(text, depth)
    except Exception:
        # A text that nobody foresaw is judged as it stands: it shall neither pass nor cost the record an entry.
        logger.exception("a text of %d characters could not be read", len(text))
        return Read(text)


def _read(text: str, depth: int) -> Read:
    parts: list[str] = []
    blobs: list[Blob] = []
    at, room = 0, LARGEST_TEXT
    for match in _RUN.finditer(text):
        run = match["run"]
        decoded = from_base64(run)
        # First question: is it text? Then it is read, whatever the data URL claims. Only what decodes to no text goes
        # on to the second question, whether its characters are spread as those of bytes are.
        inner = text_of(decoded) if depth and decoded is not None and len(run) * 3 // 4 <= room else None
        if inner is not None:
            room -= len(inner)
            deeper = read(inner, depth - 1)
            parts += [_small(text[at : match.start()], depth), f"\n{deeper.words}\n"]
            blobs += deeper.blobs
        else:
            media = (match["media"] or "").lower()
            # By the first bytes, not by what a URL claims: "data:image/png" before words would otherwise hide them from
            # the detector.
            by_itself = decoded is not None and _is_picture(decoded)
            is_known = by_itself or (decoded is not None and decoded.startswith(_FORMATS))
            # Where the format is known, a window has to look like words to be kept; in unknown bytes every uneven
            # window is kept. Reading too much costs a little time, reading too little lets words through.
            words, taken = _sifted(run, strict=not is_known)
            is_picture = by_itself or (media.startswith("image/") and match["coded"] is not None)
            if not taken and not is_picture:
                continue
            blobs.append(Blob("picture" if is_picture else "opaque", taken))
            parts += [_small(text[at : match.start("run")], depth), words]
        at = match.end()
    parts.append(_small(text[at:], depth))
    return Read("".join(parts), tuple(blobs))


async def aread(text: str) -> Read:
    """`read`, off the event loop where it takes long."""
    return await asyncio.to_thread(read, text) if len(text) > LONG else read(text)


def in_blob(text: str) -> bool:
    """Whether a text that grows is in the middle of what may be base64."""
    return _TAIL.search(text[-SHORTEST:]) is not None


def picture_url(text: str) -> bool:
    """Whether a text is the data URL of a picture and nothing else."""
    return _URL.match(text) is not None


def _small(text: str, depth: int) -> str:
    """What is no long run: short data URLs and percent-encoded ones are followed by what they say."""
    if not depth or "data:" not in text.lower():
        return text

    def also(match: re.Match[str]) -> str:
        decoded = from_base64(match["run"])
        inner = text_of(decoded) if decoded is not None else None
        return match[0] if inner is None else f"{match[0]}\n{read(inner, depth - 1).words}\n"

    def unquoted(match: re.Match[str]) -> str:
        return match[0] if _PERCENT.search(match["body"]) is None else f"{match[0]}\n{unquote(match['body'])}\n"

    return _ESCAPED.sub(unquoted, _SHORT.sub(also, text))


def _is_picture(data: bytes) -> bool:
    return data.startswith(_PICTURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or data[4:8] == b"ftyp"


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The number of each symbol by its character, and which pairs of symbols are frequent in words."""
    codes = np.full(256, 255, dtype=np.uint8)
    for number, symbol in enumerate(_ALPHABET):
        codes[symbol] = number
    # The URL-safe alphabet differs in these two symbols alone.
    codes[ord("-")], codes[ord("_")] = codes[ord("+")], codes[ord("/")]
    frequent = np.zeros((64, 64), dtype=bool)
    for pair in _FREQUENT.split():
        for one in (pair[0], pair[0].upper()):
            for other in (pair[1], pair[1].upper()):
                frequent[codes[ord(one)], codes[ord(other)]] = True
    return codes, frequent


def _sifted(run: str, *, strict: bool) -> tuple[str, int]:
    """What of a run may be words, and how many of its characters are not.

    Args:
        run: base64, perhaps.
        strict: whether a window that is uneven is kept even where it has no pairs of letters that words have.
    """
    codes, frequent = _tables()
    whole = np.frombuffer(run.encode("ascii"), dtype=np.uint8)
    symbols = codes[whole]
    places = np.flatnonzero(symbols < 64)
    symbols = symbols[places]
    if len(symbols) < SHORTEST:
        return run, 0
    # Overlapping windows, and a last one that ends with the run, so that a few words at its end are inside some window
    # as a whole.
    starts = np.unique(np.append(np.arange(0, max(1, len(symbols) - WINDOW + 1), STEP), max(0, len(symbols) - WINDOW)))
    size = min(WINDOW, len(symbols))
    may_say = np.zeros(len(symbols), dtype=bool)
    # In portions, so that a picture of many megabytes does not take many times as much memory.
    for portion in range(0, len(starts), 4096):
        begins = starts[portion : portion + 4096]
        # [windows, size]; adding 64 times the number of its row gives each window symbols of its own, so that one
        # `bincount` counts all windows.
        rows = symbols[begins[:, None] + np.arange(size)]
        numbered = rows + 64 * np.arange(len(begins))[:, None]
        counts = np.bincount(numbered.ravel(), minlength=64 * len(begins)).reshape(-1, 64)
        # Pearson's chi-square against equal frequencies: sum (n_i - n/64)^2 / (n/64) = 64/n sum n_i^2 - n, for all
        # windows of the portion at once. Windows below the limit look like compressed bytes.
        uneven = np.flatnonzero((counts**2).sum(1) * 64 / size - size > EVEN)
        # The share of the two commonest symbols: a window of zeros ("AAAA") is uneven too, and says nothing.
        most = np.partition(counts[uneven], -2, axis=1)[:, -2:].sum(1) / size
        uneven = uneven[most < MONOTONE]
        if not strict:
            rows = rows[uneven]
            uneven = uneven[frequent[rows[:, :-1], rows[:, 1:]].sum(1) >= PAIRS]
        for begin in begins[uneven]:
            # With what stands around it: words may begin in a window that is mostly bytes.
            may_say[max(0, begin - STEP) : begin + size + STEP] = True
    if may_say.all():
        return run, 0
    taken = int((~may_say).sum())
    kept = np.ones(len(whole), dtype=bool)
    kept[places] = may_say
    # Where `kept` turns on or off: even entries begin a stretch that is kept, odd ones end it.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    pieces = [run[begin:end].strip("=\r\n\\") for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    return " " + " ".join(piece for piece in pieces if piece) + " ", taken
