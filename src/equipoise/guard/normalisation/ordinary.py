"""`read_part`: what the readings see of a part of a text, so that a text which grows is read part by part.

What patterns find in a part (tags, links, emphasis, spaced letters) they find whatever the other parts say, as long as
no pattern reaches from one part into the next (`cuts`). What decides about a whole text (how many marks, look-alikes
and signs between letters it has, how much of it is English) are sums over its parts. So the readings of an ordinary
text, and of one that has no other reading than without its typography, are those of its parts one behind the other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Final

from equipoise.guard.normalisation import ciphers, code_pieces, leetspeak, letter_gaps, misspelt, readings, typography
from equipoise.guard.normalisation.encodings import decoded, may_be_dump
from equipoise.guard.normalisation.inner_signs import without_inner_signs
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
            self.turned >= typography.LEAST_TURNED
            or self.flags >= typography.FLAGS
            or self.mixed >= max(2, typography.MIXED * self.foreign)
            or self._looks_english()
            or self.joints >= code_pieces.JOINTS
            or self.hidden >= misspelt.LEAST
            or self.doubled >= max(misspelt.LEAST, misspelt.SHARE * self.spelt)
            or (self.codes and (self.closing or (self.backslashes and self.brackets)))
            or (self.references and self.semicolons)
            or self.long_letters > max(letter_gaps.LONG_SHARE * self.letters, 24)
            or max(self.between.values(), default=0) >= max(letter_gaps.SIGNS, letter_gaps.DENSE * self.words)
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
    """What decides about a whole text."""

    first: PassSums = field(default_factory=PassSums)
    """Of the text as it stands."""
    second: PassSums = field(default_factory=PassSums)
    """Of the text without typography."""
    words: int = 0
    noise: int = 0
    foreign: int = 0
    """Parts that are not ASCII."""
    stroked: int = 0
    """Parts with letters that have strokes."""
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

    @property
    def _english(self) -> float:
        """Share of letters in English words of the plain text."""
        return _share(self.known, self.second.letters)

    def changes_nothing(self) -> bool:
        """Whether no decision about the whole text changes it, beyond what its parts change by themselves."""
        return (
            self.first.changes_nothing()
            and self.second.changes_nothing()
            and self.drawn < leetspeak.DRAWN
            and self.mixed < max(3, leetspeak.DENSE * self.tokens)
            and (self._english >= ciphers.FOREIGN or self._is_no_cipher())
        )

    def hides_nothing(self) -> bool:
        """Whether a text whose words are the same without typography is too plain to be judged without it."""
        marked = self.first.marks >= max(readings.FEW, readings.MARKED * self.words)
        noisy = self.words and self.noise >= max(readings.FEW, readings.NOISY * self.words)
        return not noisy and not (marked and (not self.foreign or self._english >= readings.ENGLISH))

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


@dataclass(frozen=True)
class ReadPart:
    """A part of a text with what the readings see of it."""

    sums: TextSums
    """What it adds to its text's sums."""
    plain: str
    """Without typography."""
    words: list[str]
    """As texts are compared by them."""
    plain_words: list[str]
    """The same of `plain`."""
    steps: tuple[str, ...]
    """The part after each step of the readings; other parts have the same steps."""


def read_part(part: str) -> ReadPart | None:
    """A part that is read by itself; None if it has a further reading other than its typography, or might have one.

    Args:
        part: ends where no pattern goes on (`cuts.last_cut`), or at the text's end.
    """
    sums = TextSums()
    first = _passed(part, sums.first)
    second = None if first is None else _passed(first[-1], sums.second)
    if first is None or second is None:
        return None
    plain = first[-1]
    if second[-1] != plain or ciphers.by_chunks(plain) != plain:
        return None
    words, plain_words = compared_words(part), compared_words(plain)
    bare = leetspeak.undrawn(plain)
    sums.mixed, sums.tokens = leetspeak.mixed_tokens(bare)
    read = leetspeak.with_letters(bare, dense=False) if sums.mixed else bare
    if compared_words(read) != plain_words:
        return None
    sums.stroked = int(readings.unstroked_words(part) != words)
    sums.words, sums.noise, sums.foreign = len(words), noise(plain), int(not part.isascii())
    sums.drawn = leetspeak.drawn_letters(part)
    english = words_of(plain)
    sums.known = _known(english)
    sums.pig = ciphers.pig_words(plain)
    sums.single = max((number for sign, number in Counter(plain).items() if sign.strip()), default=0)
    for how, other in (("rot47", ciphers.rot47(plain)), ("backwards", plain[::-1])):
        other_words = words_of(other)
        sums.shifted[f"{how} known"] = _known(other_words)
        sums.shifted[f"{how} letters"] = sum(map(len, other_words))
    sums.opening = english[: ciphers.SAMPLE]
    return ReadPart(sums, plain, words, plain_words, (*first, *second))


def _passed(part: str, sums: PassSums) -> list[str] | None:
    """A part after each step of one pass without typography, of which the last is plain; None if it is encoded."""
    if decoded(part) != part or may_be_dump(part):
        return None
    sums.characters, sums.turned = len(part), typography.turned_letters(part)
    sums.flags = typography.flag_letters(part)
    text, sums.marks = (part, 0) if part.isascii() else typography.visible(part)
    if not _count_foreign(text, sums):
        return None
    steps = [text]
    # In the order of `readings`: strings in pieces, misspelt words, markup, letters apart.
    text = code_pieces.called(text)
    steps.append(text)
    sums.joints = code_pieces.joints_in(text)
    sums.hidden, sums.doubled, sums.spelt = misspelt.misspelt_in(text)
    sums.codes, sums.closing = typography.codes_in(text), text.count("[/") + text.count("\x1b[")
    sums.backslashes, sums.brackets = text.count("\\"), text.count("[") + text.count("color")
    sums.references = int(typography.unescaped(text) != text)
    sums.semicolons = text.count(";") + text.count("&#")
    unmarked = list(typography.unmarked(text))
    sums.marks += sum(number for _, number in unmarked)
    steps += [step for step, _ in unmarked]
    text, fallen = without_inner_signs(steps[-1])
    sums.marks += fallen
    steps.append(text)
    text = letter_gaps.closed(text)
    steps.append(text)
    words = words_of(text)
    sums.words, sums.letters = len(words), sum(map(len, words))
    sums.long_letters = sum(len(word) for word in words if len(word) >= letter_gaps.LONG_WORD)
    sums.between = letter_gaps.signs_between(text)
    return [*steps, letter_gaps.opened(text)]


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
        latin = words_of(typography.with_i(looks))
        sums.look_alikes[word] = (sum(map(str.isalpha, looks)) > 1, _known(latin), sum(map(len, latin)))
    return True


def _share(known: int, letters: int) -> float:
    """As `known_share` computes it."""
    return known / letters if letters else 0.0


def _known(words: list[str]) -> int:
    return sum(len(word) for word in words if is_word(word))
