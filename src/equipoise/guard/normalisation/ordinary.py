"""`OrdinaryText`: proves of a growing text, part by part, that it has no further reading.

A text has no further reading if nothing in it changes when it is read, and if none of the shares and numbers that
decide about the whole text (marks, look-alikes, signs between letters, English words) reaches its limit. The first is
found out for each part by itself, as long as no pattern of a reading reaches from one part into the next; the second
are sums over the parts. So only a text's end is looked at again when it grows.
"""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Final

from equipoise.guard.normalisation import ciphers, code_pieces, leetspeak, letter_gaps, misspelt, readings, typography
from equipoise.guard.normalisation.encodings import decoded, may_be_dump
from equipoise.guard.normalisation.readings import compared_words, noise
from equipoise.guard.normalisation.vocabulary import is_word, words_of

_SINGLE: Final = 0.95
"""Share of one sign among every other one, from which on it only separates (`ciphers`)."""


@dataclass
class _Sums:
    """Numbers of one text that are the sums of those of its parts."""

    def add(self, other: _Sums) -> None:
        """Add those of the part that follows."""
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, Counter | dict):
                mine.update(theirs)
            elif isinstance(mine, _Sums):
                mine.add(theirs)
            else:
                setattr(self, item.name, mine + theirs)


@dataclass
class PassSums(_Sums):
    """What one pass of `readings` without typography counts."""

    characters: int = 0
    turned: int = 0
    """Letters on their heads."""
    flags: int = 0
    foreign: int = 0
    """Words that are not ASCII."""
    mixed: int = 0
    """Those of several scripts."""
    look_alikes: dict[str, tuple[bool, int, int]] = field(default_factory=dict)
    """Those that are ASCII by their looks: whether they are more than a sign, letters in known words, letters."""
    joints: int = 0
    """Of strings in pieces."""
    hidden: int = 0
    """Words with hidden letters."""
    doubled: int = 0
    """Words that are some without their doubled letters."""
    spelt: int = 0
    """Words with their marks."""
    marks: int = 0
    """Of accents and emphasis that fell."""
    words: int = 0
    long_letters: int = 0
    letters: int = 0
    codes: int = 0
    """What may be codes of colours or tags in square brackets."""
    closing: int = 0
    backslashes: int = 0
    brackets: int = 0
    references: int = 0
    """Parts that character references change."""
    semicolons: int = 0
    between: Counter[str] = field(default_factory=Counter)
    """Signs between letters."""

    def changes_nothing(self) -> bool:
        """Whether no decision about the whole text changes it."""
        return not (
            self.turned >= max(4, typography.TURNED * self.characters)
            or self.flags >= typography.FLAGS
            or self.mixed >= max(2, typography.MIXED * self.foreign)
            or self._looks_english()
            or self.joints >= code_pieces.JOINTS
            or self.hidden >= misspelt.LEAST
            or self.doubled >= max(misspelt.LEAST, misspelt.SHARE * self.spelt)
            or (self.codes and (self.closing or (self.backslashes and self.brackets)))
            or (self.references and self.semicolons)
            or self.long_letters > max(letter_gaps.LONG_SHARE * self.letters, 24)
            or any(number >= letter_gaps.SIGNS and number >= letter_gaps.DENSE * self.words for number in self.between.values())
        )

    def _looks_english(self) -> bool:
        """Whether most of the words that are not ASCII are English by their looks."""
        if sum(several for several, _, _ in self.look_alikes.values()) * 2 <= self.foreign:
            return False
        known = sum(known for _, known, _ in self.look_alikes.values())
        letters = sum(letters for _, _, letters in self.look_alikes.values())
        return _share(known, letters) >= typography.ENGLISH


@dataclass
class TextSums(_Sums):
    """What decides about a whole text, whose parts have no reading by themselves."""

    first: PassSums = field(default_factory=PassSums)
    """Of the text as it stands."""
    second: PassSums = field(default_factory=PassSums)
    """Of the text without emphasis."""
    words: int = 0
    noise: int = 0
    foreign: int = 0
    """Characters that are not ASCII."""
    drawn: int = 0
    mixed: int = 0
    """Tokens of letters and of signs for letters."""
    tokens: int = 0
    known: int = 0
    """Letters in English words, of `second.letters`."""
    pig: int = 0
    single: int = 0
    """No fewer than the most frequent sign has places."""
    shifted: Counter[str] = field(default_factory=Counter)
    """Letters, and those in English words, in rot47 and with the words backwards."""
    opening: list[str] = field(default_factory=list)
    """The first words."""

    def add(self, other: _Sums) -> None:
        """Add those of the part that follows."""
        super().add(other)
        del self.opening[ciphers.SAMPLE :]

    def has_no_reading(self) -> bool:
        """Whether the text has no further reading; False where it may have one."""
        share = _share(self.known, self.second.letters)
        marked = self.first.marks >= max(readings.FEW, readings.MARKED * self.words)
        return (
            self.first.changes_nothing()
            and self.second.changes_nothing()
            and not (marked and (not self.foreign or share >= readings.ENGLISH))
            and not (self.words and self.noise >= max(readings.FEW, readings.NOISY * self.words))
            and self.drawn < leetspeak.DRAWN
            and self.mixed < max(3, leetspeak.DENSE * self.tokens)
            and (share >= ciphers.FOREIGN or self._is_no_cipher())
        )

    def _is_no_cipher(self) -> bool:
        """Whether a text that is not English is none as a whole in any cipher either."""
        shifted = self.shifted
        return not (
            self.pig >= max(6, 0.5 * self.second.words)
            or self.single >= _SINGLE * (self.second.characters // 2)
            or any(
                _share(shifted[f"{how} known"], shifted[f"{how} letters"]) >= ciphers.ENGLISH
                for how in ("rot47", "backwards")
            )
            or ciphers.any_fits(" ".join(self.opening))
        )


def sums_of(part: str) -> TextSums | None:
    """What a part adds to its text's sums; None if it has a further reading by itself, or might have one.

    Args:
        part: ends where no pattern goes on (`cuts.last_cut`), or at the text's end.
    """
    sums = TextSums()
    plain = _passed(part, sums.first)
    if plain is None or _passed(plain, sums.second) != plain or ciphers.by_chunks(plain) != plain:
        return None
    words = compared_words(part)
    bare = leetspeak.undrawn(plain)
    sums.mixed, sums.tokens = leetspeak.mixed_tokens(bare)
    read = leetspeak.with_letters(bare, dense=False) if sums.mixed else bare
    if compared_words(plain) != words or compared_words(read) != words:
        return None
    sums.words, sums.noise, sums.foreign = len(words), noise(plain), int(not part.isascii())
    sums.drawn = leetspeak.drawn_letters(part)
    english = words_of(plain)
    sums.known = _known(english)
    sums.pig = ciphers.pig_words(plain)
    sums.single = max((plain.count(sign) for sign in set(plain) if sign.strip()), default=0)
    for how, other in (("rot47", ciphers.rot47(plain)), ("backwards", plain[::-1])):
        found = words_of(other)
        sums.shifted[f"{how} known"] = _known(found)
        sums.shifted[f"{how} letters"] = sum(map(len, found))
    sums.opening = english[: ciphers.SAMPLE]
    return sums


def _passed(part: str, sums: PassSums) -> str | None:
    """A part without emphasis, where nothing else of it changes without typography; None otherwise."""
    if decoded(part) != part or may_be_dump(part):
        return None
    sums.characters, sums.turned = len(part), typography.turned_letters(part)
    sums.flags = typography.flag_letters(part)
    text, accents = (part, 0) if part.isascii() else typography.visible(part)
    if not _count_foreign(text, sums):
        return None
    # In the order of `readings`: strings in pieces, misspelt words, markup, letters apart.
    joints = code_pieces.joints_in(text)
    if joints is None:
        return None
    sums.joints = joints
    sums.hidden, sums.doubled, sums.spelt = misspelt.misspelt_in(text)
    sums.codes, sums.closing = typography.codes_in(text), text.count("[/") + text.count("\x1b[")
    sums.backslashes, sums.brackets = text.count("\\"), text.count("[") + text.count("color")
    sums.references = int(html.unescape(text) != text)
    sums.semicolons = text.count(";") + text.count("&#")
    if typography.has_tags(text):
        return None
    text, marks = typography.without_emphasis(text)
    sums.marks = accents + marks
    if letter_gaps.changes_alone(text):
        return None
    words = words_of(text)
    sums.words, sums.letters = len(words), sum(map(len, words))
    sums.long_letters = sum(len(word) for word in words if len(word) >= letter_gaps.LONG_WORD)
    sums.between = letter_gaps.signs_between(text)
    return text


def _count_foreign(text: str, sums: PassSums) -> bool:
    """Count the words that are not ASCII; False if one of them is replaced by itself."""
    if text.isascii():
        return True
    table = typography.look_alikes()
    for word in typography.foreign_words(text):
        sums.foreign += 1
        sums.mixed += typography.mixes_scripts(word)
        looks = word.translate(table)
        if not looks.isascii():
            continue
        if any(character.isascii() and character.isalpha() for character in word):
            return False
        found = words_of(typography.with_i(looks))
        sums.look_alikes[word] = (sum(map(str.isalpha, looks)) > 1, _known(found), sum(map(len, found)))
    return True


def _share(known: int, letters: int) -> float:
    """As `known_share` computes it."""
    return known / letters if letters else 0.0


def _known(words: list[str]) -> int:
    return sum(len(word) for word in words if is_word(word))
