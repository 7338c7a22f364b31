"""Which tokens a grown prompt may consist of, and whether a row of tokens survives decoding and encoding."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import torch
from torch import Tensor

PLAIN: Final = re.compile(r" ?[A-Za-z0-9'’-]+|[,;:.?!]")
"""Words, parts of words and the marks of sentences; no line ends, no markup, nothing beyond ASCII but an apostrophe."""
END_OF_SENTENCE: Final = re.compile(r"[.?!]$")
"""What a finished prompt ends with."""


class TokenFilter:
    """The tokens of a tokenizer that a prompt may consist of.

    Args:
        tokenizer: a tokenizer of transformers.
        size: columns of the model's logits, which may be more than the tokenizer's words.
        banned: words that no prompt may hold, whatever their case.
    """

    def __init__(self, tokenizer: Any, size: int, banned: Collection[str] = ()) -> None:
        self._tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        self.texts = [self._text(index) if index < len(tokenizer) else "" for index in range(size)]
        words = {word.casefold() for word in banned}
        self._banned = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in sorted(words))) if words else None
        self.allowed = torch.tensor(
            [
                index not in special and PLAIN.fullmatch(text) is not None and not self.holds_banned(text)
                for index, text in enumerate(self.texts)
            ]
        )
        """`V` bool."""
        self.ends = torch.tensor([END_OF_SENTENCE.search(text) is not None for text in self.texts])
        """`V` bool: which tokens end a sentence."""

    def _text(self, index: int) -> str:
        # Decoded after another token, because SentencePiece drops the space of a first word.
        piece = str(self._tokenizer.convert_ids_to_tokens(index))
        text = str(self._tokenizer.decode([index]))
        return f" {text}" if piece.startswith("\u2581") and not text.startswith(" ") else text

    def holds_banned(self, text: str) -> bool:
        """Whether a text holds a banned word; words that several tokens make up are seen only in whole texts."""
        return self._banned is not None and self._banned.search(text.casefold()) is not None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def round_trips(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each row of tokens, decoded and encoded again, is the same row, and its text needs no trimming.

        The victim is sent text. Tokens that no text encodes to ("kil" + "ling" where "killing" is one token) would be
        scored as something that can never be sent.
        """
        if not rows:
            return []
        texts = [self.decode(row) for row in rows]
        # A prompt is sent as text and encoded again by whoever receives it. A row of tokens that no text encodes to
        # would be scored as one thing and asked as another.
        encoded = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [
            list(row) == list(again) and text == text.strip()
            for row, again, text in zip(rows, encoded, texts, strict=True)
        ]


def best_allowed(scores: Tensor, allowed: Tensor, count: int) -> list[int]:
    """Indices of the highest allowed scores, best first; fewer where fewer are allowed.

    Args:
        scores: `V` numbers.
        allowed: `V` bool.
        count: how many.
    """
    masked = scores.masked_fill(~allowed, -torch.inf)
    values, indices = masked.topk(min(count, len(masked)))
    return [int(index) for index, value in zip(indices, values, strict=True) if value > -torch.inf]
