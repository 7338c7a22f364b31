"""Words whose letters stand apart: `h o w`, `h-o-w`, `ho-w t-o`, `h.o.w`."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from equipoise.guard.normalisation.inner_signs import without_inner_signs
from equipoise.guard.normalisation.vocabulary import is_word, known_share, segmented, words_of

_SPACED: Final = re.compile(
    r"(?<![^\W_])[^\W_](?:[^\w]{1,9}[^\W_]){4,}(?![^\W_])|(?<![^\W_])[^\W_](?:_[^\W_]){4,}(?![^\W_])"
)
"""Five single letters or more, each apart from the next: by spaces, by signs, or as a list of a program."""
_LONG: Final = re.compile(r"[A-Za-z]{24,}")
"""Letters in a row that are no word; the vocabulary's longest has 18."""
_BETWEEN: Final = re.compile(r"(?<=[A-Za-z])([^\w\s]|_)(?=[A-Za-z])")
"""A sign between two letters."""
LEAST: Final = 0.5
"""Share of letters in known words, below which spaced letters are no words."""
LIST: Final = 12
"""Letters apart by commas that are a list, up to which number."""
_MEDIUM: Final = re.compile(r"[A-Za-z]{6,}")
"""The same where all words of a text are long."""
LONG_WORD: Final = 12
"""Letters of a long word."""
LONG_SHARE: Final = 0.3
"""Share of a text's letters in long words, from which on words stand together; English has 0.05, German 0.2."""
SURE: Final = 0.85
"""The same for words without spaces, which a long name in a program may also be."""
RANDOM: Final = 0.1
"""Share of all gaps, from which on blanks of three widths are no boundaries of words."""
MARKED: Final = 8
"""Letters to a word, up to which gaps end words; English has five."""
_WITHIN: Final = ("'", "\u2019", "-")
"""Signs within a word."""
_OPENING: Final = ("(", "[", "{")
"""Signs before a word."""
_PROSE: Final = ".,;:!?'\u2019\"()[]{}-"
"""Signs of ordinary text; without them a detector reads words less well. Others only set words apart."""
SIGNS: Final = 3
"""Equal signs between letters, from which on they may hide something."""
DENSE: Final = 0.12
"""Signs between letters to a word, from which on they are no ordinary punctuation; ordinary text has less than 0.06."""


def joined(text: str) -> tuple[str, int]:
    """A text with its spaced letters together and words without spaces apart, and how many signs fell."""
    text, fallen = without_inner_signs(text)
    text, signs = _without_signs(closed(text))
    words = words_of(text)
    # Where long words have that much of all letters, each is several words.
    several = sum(len(word) for word in words if len(word) >= LONG_WORD) > max(LONG_SHARE * sum(map(len, words)), 24)
    return (_MEDIUM if several else _LONG).sub(_apart, text), fallen + signs


def closed(text: str) -> str:
    """A text with its spaced letters together."""
    return _SPACED.sub(_word, text)


def opened(text: str) -> str:
    """A text with words without spaces apart, where its other words are no longer than usual."""
    return _LONG.sub(_apart, text)


def _apart(match: re.Match[str]) -> str:
    words = segmented(match[0])
    return words if known_share(words_of(words)) >= SURE else match[0]


def _word(match: re.Match[str]) -> str:
    """Words of single letters: wider gaps end words; without any the likeliest words are taken."""
    run = match[0]
    parts = re.split(r"([\W_]+)", run)
    gaps = Counter(parts[1::2])
    common = gaps.most_common(1)[0][0]
    blanks = [gap for gap, number in gaps.items() if gap.isspace() and number >= RANDOM * gaps.total()]
    if len(blanks) > 2:
        # Gaps of random width end no words.
        gaps = Counter({common: gaps.total()})
        parts = [common if gap in blanks else gap for gap in parts]
    # The most frequent gap separates letters, every other one words: `h o w   t o`.
    words = "".join(part if number % 2 == 0 else _between(part, common) for number, part in enumerate(parts))
    # Where gaps end words, a long one is one that the vocabulary lacks.
    if gaps.total() >= MARKED * (1 + sum(number for gap, number in gaps.items() if _ends_word(gap, common))):
        words = re.sub(r"[A-Za-z]{3,}", lambda part: part[0] if is_word(part[0]) else segmented(part[0]), words)
    if "," in common and len(words) < LIST:
        return run
    return words if known_share(words_of(words)) >= LEAST else run


def _ends_word(gap: str, common: str) -> bool:
    """Whether a gap is wider than one between two letters of a word, or than two around a sign."""
    return gap != common and (gap.isspace() or any(map(str.isspace, gap.replace(common, "", 2))))


def _between(gap: str, common: str) -> str:
    """What stands between two letters whose gap is `gap`, where `common` only sets letters apart: `t i m e ,  w e`."""
    if gap == common:
        return ""
    signs = "".join(sign for sign in gap.replace(common.strip(), "") if sign in _PROSE)
    if signs in _WITHIN:
        return signs
    return f" {signs}" if signs[:1] in _OPENING else f"{signs} "


def _without_signs(text: str) -> tuple[str, int]:
    """A text without the signs within its words, where there are more than in ordinary text, and how many fell."""
    signs = signs_between(text)
    words = len(words_of(text))
    fallen = 0
    for sign, number in signs.most_common(3):
        if number < SIGNS or number < DENSE * words:
            continue
        between = re.compile(rf"(?<=[A-Za-z]){re.escape(sign)}(?=[A-Za-z])")
        within = re.compile(rf"(?<=\S){re.escape(sign)}(?=\S)")
        # A sign may stand within words or between them: what gives more English is taken.
        candidates = [between.sub(" ", text), within.sub("", text)]
        shares = [known_share(words_of(candidate)) for candidate in candidates]
        text = candidates[shares.index(max(shares))]
        fallen += number
    return text, fallen


def signs_between(text: str) -> Counter[str]:
    """How often each sign stands between two letters, apostrophes excepted."""
    signs = Counter(_BETWEEN.findall(text))
    signs.pop("'", None)
    return signs
