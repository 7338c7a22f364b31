"""What the encoder judge sees of an exchange: the prompt's opening, the reply's opening and end, in word pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from equipoise.judges import text_preprocessing

_CHARACTERS: Final = 12
"""No word piece that matters is longer on average: how many characters are read for each token that is kept."""

GRAMS: Final = 1 << 16
"""Into how many numbers runs of word pieces are hashed."""


@dataclass(frozen=True)
class EncodedExchange:
    """An exchange in token ids."""

    ids: tuple[int, ...]
    """Everything, markers included."""
    reply: int
    """Where the reply begins."""

    @property
    def grams(self) -> list[int]:
        """The runs of one, two and three pieces of the reply, hashed (Karp and Rabin 1987), each once, in order."""
        ids = self.ids[self.reply :]
        grams = set()
        for start in range(len(ids)):
            value = 0
            for length, piece in enumerate(ids[start : start + 3], 1):
                # A polynomial modulo the prime 2^31 - 1. Without the length a piece with id 0 before a run would change
                # nothing.
                value = (value * 1_000_003 + piece + length) % 2_147_483_647
                grams.add(value % GRAMS)
        return sorted(grams)


@dataclass(frozen=True)
class EncoderWindow:
    """How much is read."""

    prompt: int = 32
    """Tokens from the start of the prompt."""
    opening: int = 80
    """Tokens from the start of the reply."""
    ending: int = 30
    """Tokens from the end of a longer reply."""

    @property
    def longest(self) -> int:
        """The longest input, with its three markers and the three dots of a gap."""
        return self.prompt + self.opening + self.ending + 6

    def read(self, tokenizer: Tokenizer, exchanges: Sequence[tuple[str, str]]) -> list[EncodedExchange]:
        """The pieces of prompts with their replies, in order."""
        start, gap, stop = (int(tokenizer.token_to_id(mark) or 0) for mark in ("[CLS]", ".", "[SEP]"))
        room = _CHARACTERS * (self.opening + self.ending)
        replies = [text_preprocessing.plain(reply) for _, reply in exchanges]
        prompts = tokenizer.encode_batch(
            [text_preprocessing.plain(prompt[: 2 * _CHARACTERS * self.prompt]) for prompt, _ in exchanges],
            add_special_tokens=False,
        )
        opened = tokenizer.encode_batch([reply[:room] for reply in replies], add_special_tokens=False)
        closed = tokenizer.encode_batch([reply[-room:] for reply in replies], add_special_tokens=False)
        rows = []
        for question, first, last, reply in zip(prompts, opened, closed, replies, strict=True):
            reply_ids = list(first.ids)
            if len(reply) > room or len(reply_ids) > self.opening + self.ending:
                # The opening says whether a reply refuses, and the end whether it came round to answering; the middle
                # of a long reply adds time and little else. Three dots mark the gap, as a writer would.
                reply_ids = [*reply_ids[: self.opening], gap, gap, gap, *last.ids[-self.ending :]]
            prompt = question.ids[: self.prompt]
            rows.append(EncodedExchange((start, *prompt, stop, *reply_ids, stop), len(prompt) + 2))
        return rows
