"""`growing_ids`: token ids of a text that is tokenised again and again as it grows, such as a streamed reply."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from equipoise.guard.growing_store import GrowingStore
from equipoise.guard.tokens import ids_of, special_names, spelled_out

SHORT: Final = 1000
"""Characters of a text that is always tokenised from its start."""
_CUT: Final = re.compile(r"(?<=[!-~])[ \n](?=[!-~])")
"""A blank between ASCII characters: before and behind it nothing is composed over it."""
_SPLITTERS: Final = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})
"""Pre-tokenizers that end a word at each blank."""
_NORMALIZERS: Final = frozenset({"NoneType", "BertNormalizer", "Lowercase"})
"""Normalizers that look at no character beyond a blank."""


class GrowingIds:
    """A text so far with its token ids.

    Args:
        text: so far.
    """

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.ids: list[int] = []
        """Of what is before `_settled`."""
        self._settled = 0

    def grow(self, tokenizer: Any, text: str) -> list[int]:
        """The token ids of a text that begins with this one.

        Args:
            tokenizer: one that `ends_words_at_blanks`; always the same.
            text: all of it.
        """
        cut = max((match.end() for match in _CUT.finditer(text, self._settled)), default=self._settled)
        if cut > self._settled:
            self.ids += _anew(tokenizer, text[self._settled : cut])
            self._settled = cut
        self.text = text
        return self.ids + _anew(tokenizer, text[self._settled :])


def growing_ids(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a text without markers; only its end is tokenised if its beginning was before.

    Args:
        tokenizer: of transformers; where it does not end words at blanks, the whole text is tokenised.
        text: somebody else's words; names of special tokens are broken up.
    """
    store = _store(tokenizer)
    if store is None or len(text) < SHORT:
        return _anew(tokenizer, text)
    known = store.take(text) or GrowingIds()
    ids = known.grow(tokenizer, text)
    store.put(known)
    return ids


def ends_words_at_blanks(tokenizer: Any) -> bool:
    """Whether the tokens before and behind a blank are the same whatever stands on its other side."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        backend is not None
        and type(backend.pre_tokenizer).__name__ in _SPLITTERS
        and type(backend.normalizer).__name__ in _NORMALIZERS
        and not any(character.isspace() for name in special_names(tokenizer) for character in name)
    )


@lru_cache(maxsize=16)
def _store(tokenizer: Any) -> GrowingStore[GrowingIds] | None:
    return GrowingStore() if ends_words_at_blanks(tokenizer) else None


def _anew(tokenizer: Any, text: str) -> list[int]:
    return ids_of(tokenizer, spelled_out(tokenizer, text))
