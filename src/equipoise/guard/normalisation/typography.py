"""Text without what only looks different: compatibility letters, look-alikes, invisible characters, marks, markup."""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from equipoise.guard.normalisation.vocabulary import is_word, known_share, words_of
from equipoise.judges.text_preprocessing import with_few_marks

TABLE: Final = Path(__file__).parent / "confusables.txt"
_MARKS: Final = re.compile(
    r"(?<=[\x20-\x7e])[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_TAGS: Final = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)}
"""Unicode's tag characters, which are invisible, as the ASCII that they stand for."""
_LETTERS: Final = re.compile(r"[^\s\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+")
"""A word in any script. Whether it is ASCII is asked of the whole: a pattern would search anew from each letter."""
_PART: Final = re.compile(r"(?<=[.!?\n\u02d9])")
"""The end of a sentence; the last one is a full stop on its head."""
_TAG: Final = re.compile(r"<!--.{0,2000}?-->|</?[A-Za-z][^<>]{0,300}>", re.DOTALL)
_CODES: Final = re.compile(
    r"(?:\x1b|\\(?:033|x1[bB]|e|u001[bB]))\[[0-9;]{0,20}[A-Za-z]"
    r"|\[/?(?:b|i|u|s|color|size|font|url|quote|code|spoiler|center|img|list)(?:=[^\[\]]{0,100})?\]"
    r"|\\(?:text|f)?color(?:box)?\s*\{[^{}]{0,40}\}",
    re.IGNORECASE,
)
"""Colours of a terminal, tags in square brackets (BBCode), LaTeX's colours."""
_LATEX: Final = re.compile(r"\\(?:text|math|emph|operatorname|mbox|underline)[a-z]*\s*\{([^{}]{0,2000})\}")
_LINK: Final = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,2000}\)")
_MARKUP: Final = re.compile(r"(?<![*`~|])[*`~|]+(?=\w)|(?<=[\w.,;:!?])[*`~|]+|(?<!\w)_+(?=\w)|(?<=\w)(?<!_)_+(?!\w)")
"""Marks of emphasis, code and the like beside a word, an underscore within a word excepted."""
_ENDLESS: Final = re.compile(r"&#[0-9]{9,}+;?")
_ESCAPE: Final = re.compile(r"\\(?=[*_~`|])")


_ANNOTATION: Final = re.compile(r"<r[tp]\b[^<>]{0,100}>[^<>]{0,100}</r[tp]>", re.IGNORECASE)
"""What stands above a word, and not in it."""
_DRAWN: Final = dict(zip("⭕❌₳฿₵Ɇ₣₲Ⱨ₭Ⱡ₥₦Ø₱Ɽ₴₮Ʉ₩ӾɎⱫ", "oxabcefghklmnoprstuwxyz", strict=True)) | dict(
    zip("ᗩᗷᑕᗪᗴᖴᘜᕼᒍᒪᗰᑎᑭᖇᑌᐯᗯ᙭ᘔᏆ", "abcdefghjlmnpruvwxzi", strict=True)
)
"""Signs and letters that draw a Latin letter, beside those of Unicode's table."""
_FLAGS: Final = {0x1F1E6 + number: letter for number, letter in enumerate(string.ascii_lowercase)}
"""The letters that flags consist of."""
_WIDE: Final = str.maketrans(
    dict(zip("тнмквяийпгшщцчьъзэлдфєжю", "thmkbrnnnrwwuybbeendoexo", strict=True))
    | dict(zip("εηδσωθλμπγβφψχικνορτυα", "endowoiunyboyxikvoptua", strict=True))
)
"""Cyrillic and Greek letters that look like Latin ones only beside them: other languages consist of them."""
ENGLISH: Final = 0.3
"""Share of letters in English words among the words of look-alikes, below which they are another language's."""
MIXED: Final = 0.2
"""Share of the words with foreign letters that mix scripts, from which on a text is no other language."""
_TURNED: Final = str.maketrans("ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz", string.ascii_lowercase)
_TURNED_ONLY: Final = frozenset("ɐǝɟƃᴉɾʞɯɹʇʌʍʎ")
FLAGS: Final = 5
"""Letters of flags, from which on they spell something."""
TURNED: Final = 0.15
"""Share of the letters of a text, or of a sentence, that stand on their heads, from which on all do."""
LEAST_TURNED: Final = 4
"""Such letters, at least."""


@lru_cache(maxsize=1)
def look_alikes() -> Mapping[int, str]:
    """Characters with the ASCII letters and digits that they look like, for `str.translate`."""
    rows = [line.split() for line in TABLE.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return {ord(drawn): letter for drawn, letter in _DRAWN.items()} | {int(code, 16): letters for code, letters in rows}


def unified(text: str) -> tuple[str, int]:
    """A text in plain letters, and how many marks fell from them.

    NFKC, without invisible characters and marks on ASCII characters, look-alikes replaced.

    Args:
        text: of any length; ASCII is returned as it is.
    """
    if text.isascii():
        return text, 0
    turned = turned_letters(text)
    if turned >= LEAST_TURNED:
        whole = turned >= TURNED * len(text)
        text = "".join(_upright(part, whole=whole) for part in _PART.split(text))
    text, fallen = visible(text)
    return _without_look_alikes(text), fallen


def _upright(part: str, *, whole: bool) -> str:
    """A sentence with its letters the right way up, where enough of them stand on their heads.

    In a text of which enough do, every sentence that is more English then is turned, as short ones may have none of the
    letters that tell. What one says does not depend on how much stands around it otherwise.
    """
    upright = part.translate(_TURNED)
    if turned_letters(part) >= max(LEAST_TURNED, TURNED * len(part)):
        return upright
    return upright if whole and known_share(words_of(upright)) > known_share(words_of(part)) else part


def turned_letters(text: str) -> int:
    """How many letters of a text stand on their heads."""
    return sum(character in _TURNED_ONLY for character in text)


def flag_letters(text: str) -> int:
    """How many letters of a text are those that flags consist of."""
    return sum(ord(character) in _FLAGS for character in text)


def visible(text: str) -> tuple[str, int]:
    """A text of compatible letters without what is invisible, and how many marks fell; look-alikes stay."""
    # Tags first: they are format characters, too, and what they spell would fall with the invisible ones below.
    text = text.translate(_TAGS)
    if flag_letters(text) >= FLAGS:
        text = text.translate(_FLAGS)
    text = with_few_marks("".join(character for character in text if not _invisible(character)))
    # NFKD first, so that the mark of a letter that is one character with it falls, too; marks of other scripts are
    # letters there and stay.
    text, fallen = _MARKS.subn("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFKC", text), fallen


def unescaped(text: str) -> str:
    """A text with its character references as the characters that they name."""
    try:
        return html.unescape(text)
    except ValueError:
        # A number of more digits than Python reads names no character.
        return html.unescape(_ENDLESS.sub("", text))


def _invisible(character: str) -> bool:
    code = ord(character)
    if code < 0x80:
        return False
    return (
        unicodedata.category(character) == "Cf"
        or 0xFE00 <= code <= 0xFE0F  # variation selectors
        or 0xE0100 <= code <= 0xE01EF
        or code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, 0x2800)
    )


def _without_look_alikes(text: str) -> str:
    """Words of look-alikes as the Latin words that they look like; words of another script stay.

    A word is replaced if nothing of another script is left of it, and if it has Latin letters already or most such
    words of the text can be replaced and are English then: Russian has words whose letters all look Latin, too.
    """
    if text.isascii():
        return text
    table = look_alikes()
    others = foreign_words(text)
    if not others:
        return text
    replaced = {word: word.translate(table) for word in others}
    if sum(map(mixes_scripts, others)) >= max(2, MIXED * len(others)):
        replaced = {word: word.translate(_WIDE).translate(table) for word in others}
    # Single signs, as for right and wrong or for a currency, are no words.
    possible = sum(result.isascii() and sum(map(str.isalpha, result)) > 1 for result in replaced.values())
    latin = [result for result in replaced.values() if result.isascii()]
    most = possible * 2 > len(others) and known_share(words_of(" ".join(map(with_i, latin)))) >= ENGLISH

    def of(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii():
            return word
        result = replaced.get(word, word)
        mixed = any(character.isascii() and character.isalpha() for character in word)
        return with_i(result) if result.isascii() and (most or mixed) else word

    return _LETTERS.sub(of, text)


def foreign_words(text: str) -> list[str]:
    """The words with a letter, or a sign that looks like one, that is not ASCII."""
    table = look_alikes()
    return [
        word
        for word in _LETTERS.findall(text)
        if not word.isascii() and any(character.isalpha() or ord(character) in table for character in word)
    ]


def mixes_scripts(word: str) -> bool:
    """Whether a word has letters of several scripts, by the first words of their names."""
    return len({unicodedata.name(character, "").split(" ")[0] for character in word if character.isalpha()}) > 1


def with_i(word: str) -> str:
    """A word whose look-alikes of `I` Unicode's table takes for `l`."""
    if "l" not in word or is_word(word):
        return word
    other = word.replace("l", "i")
    return other if is_word(other) or word.replace("l", "").isupper() else word


def without_markup(text: str) -> tuple[str, int]:
    """A text without tags, links' addresses, emphasis and escapes, and how many marks fell."""
    fallen = 0
    if "[/" in text or "\x1b[" in text or ("\\" in text and ("[" in text or "color" in text)):
        text, number = _CODES.subn("", text)
        fallen += number
    if "&" in text and (";" in text or "&#" in text):
        text = unescaped(text)
    steps = list(unmarked(text))
    return steps[-1][0], fallen + sum(number for _, number in steps)


def unmarked(text: str) -> Iterator[tuple[str, int]]:
    """A text step by step without tags, commands of LaTeX, links' addresses, escapes and emphasis.

    Yields:
        The text after each step, and how many marks fell in it.
    """
    if "<" in text:
        text = _ANNOTATION.sub("", text)
    yield text, 0
    number = 0
    if "<" in text:
        text, number = _TAG.subn("", text)
    yield text, number
    number = 0
    if "\\" in text:
        text, number = _LATEX.subn(r"\1", text)
    yield text, number
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    yield text, 0
    text, number = _ESCAPE.subn("", text)
    yield text, number
    yield _MARKUP.subn("", text)


def codes_in(text: str) -> int:
    """How many codes of colours and tags in square brackets stand in a text, whether or not they are taken for some."""
    return len(_CODES.findall(text))
