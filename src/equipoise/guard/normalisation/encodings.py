"""Text in an encoding: base64, base32, hex, binary, character codes, percent and backslash escapes, Morse, Braille."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

from equipoise.guard.normalisation.vocabulary import is_word, known_share, segmented, words_of

_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,}={0,2}(?:\r?\n[A-Za-z0-9+/_-]{16,}={0,2})*"
    r"(?:\r?\n[A-Za-z0-9+/_-]{1,76}={1,2})?(?![A-Za-z0-9+/_-])"
)
_GROUPS: Final = re.compile(
    "|".join(
        rf"(?<![^\s\"'`])(?:[A-Za-z0-9+/]{{{size}}} ){{4,}}[A-Za-z0-9+/]{{1,{size}}}={{0,2}}(?![^\s\"'`])"
        for size in (4, 5, 8, 10, 16, 1, 2, 3)
    )
)
"""Base64 in groups of equal length."""
_WORDS: Final = re.compile(
    r"(?<!\S)(?:(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)[ \n]){4,}"
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)(?!\S)"
)
"""Words that are base64 each by itself."""
_BASE32: Final = re.compile(
    r"(?<![A-Z2-7])[A-Z2-7]{16,}={0,6}(?![A-Z2-7])|(?<![a-z2-7])[a-z2-7]{24,}={0,6}(?![a-z2-7])"
)
_QUOTED: Final = re.compile(r"(?:=[0-9A-F]{2}){5,}")
_PLACES: Final = re.compile(r"(?<![\w.-])\d{1,2}(?!\d)(?:[ /-]{1,3}\d{1,2}(?!\d)){11,}+")
"""Letters as their places in the alphabet. A run is taken as a whole: tried again from each of its numbers, a long one
would take the square of its time."""
_ALPHABET: Final = (
    r"(?:alfa|alpha|bravo|charlie|delta|echo|foxtrot|golf|hotel|india|juliett?|kilo|lima|mike|november|oscar|papa|"
    r"quebec|romeo|sierra|tango|uniform|victor|whiskey|x-?ray|yankee|zulu)"
)
_SPELLED: Final = re.compile(rf"\b(?:{_ALPHABET}\b[\s,.;/-]{{0,3}}){{6,}}", re.IGNORECASE)
"""NATO's alphabet."""
_SPELLED_WORD: Final = re.compile(rf"{_ALPHABET}|ray", re.IGNORECASE)
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[\s,;:-]{0,2}){6,}(?![0-9A-Za-z])")
_DUMP: Final = re.compile(
    r"(?:^[ \t]*[0-9A-Fa-f]{4,8}:?[ \t]+(?:[0-9A-Fa-f]{2,4}[ \t]{1,3}){1,16}(?:[ \t]*\|?[^\n]{0,20})?(?:\n|\Z)){2,}",
    re.MULTILINE,
)
"""A hex dump: places, bytes and what is printable of them."""
_DUMPED: Final = re.compile(r"^[ \t]*[0-9A-Fa-f]{4,8}:?[ \t]+((?:[0-9A-Fa-f]{2,4}[ \t]{1,3}){1,16})", re.MULTILINE)
_DUMP_LINE: Final = re.compile(r"^[ \t]*[0-9A-Fa-f]{4,8}:?[ \t]+[0-9A-Fa-f]{2}", re.MULTILINE)
_NAMES: Final = re.compile(r"(?:\\N\{[A-Z -]{3,60}\}[^\\]{0,3}){3,}")
_NAME: Final = re.compile(r"\\N\{([A-Z -]{3,60})\}")
_STYLE: Final = re.compile(r"(?:\\[0-9A-Fa-f]{2,6} ){6,}")
"""Letters as CSS escapes them."""
_BITS: Final = "01٠١۰۱०१０１"
"""Of scripts that many keyboards write; `int` knows them all."""
_BINARY: Final = re.compile(rf"(?<!\d)[{_BITS}]{{7,}}+(?:[\s,;-]{{1,2}}[{_BITS}]{{7,}}+)*+")
"""Bits with or without gaps, taken as a whole; which of them are letters is decided later, with one look at each."""
_GAP: Final = re.compile(r"([\s,;-]{1,2})")
LONG_BITS: Final = 28
"""Bits of a group that is no single letter."""
_DECIMAL: Final = re.compile(r"(?<![0-9])(?:\d{2,3}[\s,;-]{1,3}){5,}\d{2,3}(?![0-9])")
_PERCENT: Final = re.compile(r"(?:[^\s%]{0,60}%[0-9A-Fa-f]{2}){3,}[^\s%]{0,60}")
_BACKSLASH: Final = re.compile(
    r"(?:\\{1,4}u[0-9A-Fa-f]{4}|\\u\{[0-9A-Fa-f]{1,6}\}|\\U[0-9A-Fa-f]{8}|\\x[0-9A-Fa-f]{2}|\\[0-7]{3}|[Uu]\+[0-9A-Fa-f]{4,6}\s?){3,}"
)
_CODE: Final = re.compile(
    r"\\{1,4}u\{?([0-9A-Fa-f]{1,6})\}?|\\U([0-9A-Fa-f]{8})|\\x([0-9A-Fa-f]{2})|\\([0-7]{3})|[Uu]\+([0-9A-Fa-f]{4,6})\s?"
)
_MORSE: Final = re.compile(r"(?<![\w.-])(?:[.\u00b7\u2022-]{1,6}[ /|]{1,3}){4,}[.\u00b7\u2022-]{1,6}(?![\w.-])")
_BRAILLE: Final = re.compile(r"[\u2801-\u283f][\u2800-\u283f ]{3,}")
_MORSE_CODES: Final = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
)
"""Of the letters from a to z."""
_BRAILLE_CELLS: Final = "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
LARGEST: Final = 400_000
"""Characters of a text that is decoded; a longer one is read as it stands."""


def decoded(text: str) -> str:
    """A text with its encoded stretches decoded, where they give text."""
    if len(text) > LARGEST:
        return text
    for pattern, decode, needs in _DECODERS:
        if not needs or any(sign in text for sign in needs):
            text = pattern.sub(_replacing(decode), text)
    return text


def may_be_dump(text: str) -> bool:
    """Whether a line of a text begins like one of a hex dump."""
    return _DUMP_LINE.search(text) is not None


def names_letter(text: str) -> bool:
    """Whether a word is one of NATO's alphabet, or the end of one."""
    return _SPELLED_WORD.fullmatch(text) is not None


def _replacing(decode: Callable[[str], str | None]) -> Callable[[re.Match[str]], str]:
    def of(match: re.Match[str]) -> str:
        plain = decode(match[0])
        return match[0] if plain is None else f" {plain} "

    return of


def text_of(data: bytes) -> str | None:
    """Bytes as the text that they are; None where they are none."""
    for encoding in _encodings(data):
        # A run may have been cut within a letter.
        for cut in range(min(4, len(data))):
            try:
                text = data[: len(data) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            odd = sum(not (letter.isprintable() or letter in "\r\n\t\f") for letter in text)
            return text if text and odd * 50 <= len(text) else None
    return None


def _encodings(data: bytes) -> tuple[str, ...]:
    """The encodings that bytes may have."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-8", "utf-16"
    # Latin letters in UTF-16 have a zero as every second byte, before or behind the letter.
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if data[first::2].count(0) * 10 >= len(data) * 4:
            return (name,)
    return ("utf-8",)


def from_base64(run: str) -> bytes | None:
    """The bytes of base64, of either alphabet, line breaks and a missing end allowed; None where it is none."""
    packed = run.translate(_BLANK)
    # Four characters hold three bytes: one that is left over holds no whole byte.
    packed = packed[: len(packed) - 1] if len(packed) % 4 == 1 else packed
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


_BLANK: Final = str.maketrans("-_", "+/", "\\\r\n\t =")


def _base64_text(run: str) -> str | None:
    # As it stands, from its end, and in rot13.
    for packed in (run, run[::-1].lstrip("="), codecs.encode(run, "rot13")):
        data = from_base64(packed)
        text = None if data is None else text_of(data)
        # Words decode to bytes that are rarely UTF-8 and still more rarely printable ASCII.
        if text is not None and _says_words(text):
            return text
    return None


def _grouped_text(run: str) -> str | None:
    return _base64_text(run.replace(" ", ""))


def _words_text(run: str) -> str | None:
    words = [text_of(from_base64(word) or b"") for word in run.split()]
    text = " ".join(word for word in words if word is not None)
    return text if None not in words and known_share(words_of(text)) >= 0.5 else None


def _quoted_text(run: str) -> str | None:
    return _ascii(bytes.fromhex(run.replace("=", "")))


def _places_text(run: str) -> str | None:
    numbers = map(int, re.findall(r"\d+", run))
    if not all(1 <= number <= 26 for number in numbers):
        return None
    text = re.sub(r"\d+", lambda match: _LETTERS[int(match[0]) - 1], run)
    text = re.sub(r"[a-z](?:-[a-z])+|[a-z](?: [a-z])+", lambda match: re.sub("[- ]", "", match[0]), text)
    words = words_of(text)
    text = " ".join(word if is_word(word) else segmented(word) for word in words)
    return text if known_share(words_of(text)) >= 0.6 else None


def _spelled_text(run: str) -> str | None:
    words = [
        "".join(name[0] for name in re.findall(r"x-?ray|[a-z]+", word.lower())) for word in re.split("[,.;/]", run)
    ]
    return " ".join(word if is_word(word) else segmented(word) for word in words if word)


def _says_words(text: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in text)
    return letters * 10 >= len(text) * 7


def _base32_text(run: str) -> str | None:
    packed = run.rstrip("=").upper()
    try:
        return _ascii(base64.b32decode(packed + "=" * (-len(packed) % 8)))
    except (binascii.Error, ValueError):
        return None


def _hex_text(run: str) -> str | None:
    digits = re.sub(r"0x|\\x|[^0-9A-Fa-f]", "", run)
    return _ascii(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _dump_text(run: str) -> str | None:
    digits = re.sub(r"[ \t]", "", "".join(_DUMPED.findall(run)))
    return _ascii(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _named_text(run: str) -> str | None:
    def character(match: re.Match[str]) -> str:
        try:
            return unicodedata.lookup(match[1])
        except KeyError:
            return match[0]

    return _NAME.sub(character, run)


def _style_text(run: str) -> str | None:
    codes = [int(code, 16) for code in re.findall(r"[0-9A-Fa-f]+", run)]
    return "".join(chr(code) for code in codes) if max(codes) < 0x110000 else None


def _binary_text(run: str) -> str | None:
    parts: list[str] = []
    stretch, letters = "", b""
    is_read = False
    # Groups and the gaps between them in turns; a group that is no whole number of letters ends a stretch.
    for number, piece in enumerate([*_GAP.split(run), "", ""]):
        if number % 2:
            gap = piece
            continue
        more = _letters_of(piece)
        if more:
            stretch, letters = f"{stretch}{gap if number else ''}{piece}", letters + more
            continue
        text = _ascii(letters) if len(letters) >= 4 else None
        is_read = is_read or text is not None
        parts += [stretch if text is None else f" {text} ", gap if number else "", piece]
        stretch, letters = "", b""
    return "".join(parts) if is_read else None


def _letters_of(bits: str) -> bytes:
    """The letters of a group of bits, of eight or of seven each; empty where it is no whole number of either.

    Of a long group, as of bits without gaps, a rest of less than a letter falls.
    """
    whole = next((size for size in (8, 7) if bits and len(bits) % size == 0), 0)
    size = whole or (8 if len(bits) >= LONG_BITS else 0)
    return bytes(int(bits[at : at + size], 2) for at in range(0, len(bits) - size + 1, size)) if size else b""


def _decimal_text(run: str) -> str | None:
    codes = [int(code) for code in re.findall(r"\d+", run)]
    # Written anew, as `\d` and `int` know the digits of all scripts.
    numerals = list(map(str, codes))
    octal = [int(numeral, 8) for numeral in numerals] if set("89").isdisjoint("".join(numerals)) else []
    for numbers in (codes, octal):
        text = _ascii(bytes(numbers)) if numbers and max(numbers) < 256 else None
        # Any list of numbers below 256 gives letters; only words are taken for text.
        if text is not None and known_share(words_of(text)) >= 0.5:
            return text
    return None


def _ascii(data: bytes) -> str | None:
    text = text_of(data)
    return text if text is not None and _says_words(text) else None


def _escaped_text(run: str) -> str | None:
    def character(match: re.Match[str]) -> str:
        octal = match[4]
        code = int(octal, 8) if octal else int(next(group for group in match.groups() if group), 16)
        # Beyond the last code point of Unicode `chr` raises an error.
        return chr(code) if code < 0x110000 else ""

    return _CODE.sub(character, run)


def _morse_text(run: str) -> str | None:
    signs = run.replace("\u00b7", ".").replace("\u2022", ".")
    codes = dict(zip(_MORSE_CODES.split(), _LETTERS, strict=True))
    words = [
        [codes.get(code) for code in word.split()] for word in re.split(r"\s*[/|]\s*|\s{2,}", signs) if word.split()
    ]
    letters = ["".join(letter or "?" for letter in word) for word in words]
    joined = " ".join(letters)
    # A row of dots or dashes, as in a table of contents, reads as one letter over and over.
    return None if "?" in joined or len(set(joined)) < 3 else joined


def _braille_text(run: str) -> str | None:
    cells = {ord(cell): letter for cell, letter in zip(_BRAILLE_CELLS, _LETTERS, strict=True)}
    return run.translate({**cells, 0x2800: " "})


_DECODERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], str | None], tuple[str, ...]], ...]] = (
    (_PERCENT, unquote, ("%",)),
    (_BACKSLASH, _escaped_text, ("\\", "U+", "u+")),
    (_NAMES, _named_text, ("\\N",)),
    (_STYLE, _style_text, ("\\",)),
    (_DUMP, _dump_text, ()),
    (_BINARY, _binary_text, tuple(_BITS)),
    (_HEX, _hex_text, ()),
    (_DECIMAL, _decimal_text, ()),
    (_PLACES, _places_text, ()),
    (_QUOTED, _quoted_text, ("=",)),
    (_WORDS, _words_text, ()),
    (_GROUPS, _grouped_text, ()),
    (_BASE32, _base32_text, ()),
    (_BASE64, _base64_text, ()),
    (_MORSE, _morse_text, ()),
    (_BRAILLE, _braille_text, ()),
    (_SPELLED, _spelled_text, ()),
)
"""Patterns, what they decode to, and signs of which a text must have one; without any it is always looked at.

In this order: digits are looked at as binary before hex, and as hex before base64.
"""
