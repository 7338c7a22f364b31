"""Words with signs of any kinds between their letters: `k#ill th*em`, also in one sentence behind much ordinary text.

A text is read sentence by sentence: what one sentence hides does not depend on how long the others are.
"""

from __future__ import annotations

import re
from typing import Final

from equipoise.guard.normalisation.vocabulary import is_word, known_share, words_of

_SENTENCE: Final = re.compile(r"(?<=[^\W\d_][^\W\d_])(?:[.!?:;][ \n]|[)。！？!?]\n)")
"""The end of a sentence. Every cut of a growing text (`cuts`) is one, so that its parts have the text's sentences."""
_TOKEN: Final = re.compile(r"\S+")
_INNER: Final = re.compile(r"(?<=[A-Za-z])(?:[^\w\s]|_){1,3}(?=[A-Za-z])")
"""Signs between two letters."""
_CONTRACTION: Final = re.compile(r"[^A-Za-z]*[A-Za-z]+['\u2019](?:s|t|d|m|re|ve|ll)[^A-Za-z]*", re.IGNORECASE)
"""A word that is nothing else: it is matched as a whole, which takes a time that grows as its length."""
LEAST: Final = 3
"""Words of one sentence that become English without their signs, from which on the signs hide something."""
LONG: Final = 4
"""Letters of such a word; shorter ones may be abbreviations."""


def without_inner_signs(text: str) -> tuple[str, int]:
    """A text without the signs within the words of sentences that hide words so, and how many fell."""
    if len(_INNER.findall(text)) < LEAST:
        return text, 0
    parts, start, fallen = [], 0, 0
    for end in [*(match.end() for match in _SENTENCE.finditer(text)), len(text)]:
        sentence, number = _without(text[start:end])
        parts.append(sentence)
        fallen += number
        start = end
    return "".join(parts), fallen


def _without(sentence: str) -> tuple[str, int]:
    tokens = [token for token in _TOKEN.findall(sentence) if _INNER.search(token) and not _CONTRACTION.fullmatch(token)]
    if sum(_is_one_word(token) and _english_share(token, " ") < 1.0 for token in tokens) < LEAST:
        return sentence, 0
    # Beside words that are sure to be hidden so, each is taken for one unless its pieces are more English than it is.
    hidden = [token for token in tokens if _english_share(token, "") >= _english_share(token, " ")]
    joined = {token: _INNER.sub("", token) for token in hidden}
    fallen = sum(len(_INNER.findall(token)) for token in hidden)
    return _TOKEN.sub(lambda match: joined.get(match[0], match[0]), sentence), fallen


def _is_one_word(token: str) -> bool:
    words = words_of(_INNER.sub("", token))
    return len(words) == 1 and len(words[0]) >= LONG and is_word(words[0])


def _english_share(token: str, between: str) -> float:
    return known_share(words_of(_INNER.sub(between, token)))
