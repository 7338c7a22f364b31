"""`Template`: what the harm detector reads of a reply and in which order; the same in training and in serving.

The released code of MLLM-Protector trains on `Question: ... Answer: ...` and serves bare answers; here both go through
`Template.windows`. Segments are tokenised one by one and joined by the tokenizer's own separator, which no text can
spell: the special tokens' names in a text are broken up first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from equipoise.guard.growing_ids import growing_ids
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.tokens import ids_of, spelled_out

VERSION: Final = 1
"""Raised when the same text would be read differently."""
Mode = Literal["response", "exchange"]
_CHARACTERS: Final = 16
"""How many characters are tokenised for each token that is kept of a question; no word piece is longer on average."""
_LONGEST: Final = 400_000
"""Characters of a reply that are read; what is behind them is a reason to fail, not to guess (see `too_long`)."""


@dataclass(frozen=True)
class Template:
    """How much of a reply and of what it answers is read, in tokens."""

    mode: Mode = "exchange"
    """`response` reads the reply alone, as the paper does; `exchange` also what it answers."""
    question: int = 64
    """Of the question and the text in its pictures, which is a part of it: their opening and their end."""
    surroundings: int = 64
    """Of the results of tools and earlier turns, the latest first; 0 for a detector that has learned from none."""
    window: int = 192
    """Of the reply in one window."""
    stride: int = 128
    """From the start of one window to that of the next; the overlap is the rest."""

    def windows(self, tokenizer: Any, item: GuardInput) -> list[list[int]]:
        """Token ids of every window of a reply, markers included; a short or empty reply has one.

        Args:
            tokenizer: of transformers.
            item: the reply and what it answers.
        """
        exchange = self.mode == "exchange"
        # Text read off pictures counts as a part of the question: typographic attacks move the request from the words
        # into the picture, and a detector that reads the words alone would see "describe step 1 to 3".
        question = "\n".join(text for text in (item.question, item.picture_text) if text) if exchange else ""
        question_ids = _ends(_ids(tokenizer, question, self.question), self.question)
        # The latest first, since the end is cut off: what was said last explains a reply best.
        around = "\n".join(reversed(item.context)) if exchange and self.surroundings else ""
        context_ids = _ids(tokenizer, around, self.surroundings)[: self.surroundings]
        reply_ids = growing_ids(tokenizer, item.response)
        # Read layout of each window: [first] question [stop] surroundings [stop] part of the reply [stop]. Empty
        # segments keep their markers, so that the network can tell a question from a reply by counting.
        first, stop = _markers(tokenizer)
        head = [*first, *question_ids, *stop, *context_ids, *stop]
        # A window starts only where more is left than the overlap: the window before holds all of the overlap already.
        starts = range(0, max(1, len(reply_ids) - (self.window - self.stride)), self.stride)
        return [[*head, *reply_ids[start : start + self.window], *stop] for start in starts]

    @property
    def longest(self) -> int:
        """The longest window, markers included."""
        return self.question + self.surroundings + self.window + 4

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"version": VERSION, **asdict(self)}


def too_long(item: GuardInput) -> bool:
    """Whether a reply is longer than anybody reads."""
    return len(item.response) > _LONGEST


def _ids(tokenizer: Any, text: str, kept: int) -> list[int]:
    """Token ids of the question or the surroundings, of as many characters as the kept tokens can hold at both ends."""
    if len(text) > 2 * _CHARACTERS * kept:
        text = f"{text[: _CHARACTERS * kept]}\n{text[-_CHARACTERS * kept :]}"
    return ids_of(tokenizer, spelled_out(tokenizer, text))


def _ends(ids: list[int], kept: int) -> list[int]:
    # Both ends: a long paste hides its request either before or behind the filler.
    return ids if len(ids) <= kept else [*ids[: kept // 2], *ids[-(kept - kept // 2) :]]


def _markers(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What stands before everything, and what ends a segment."""
    # Encoders call them CLS and SEP, decoders BOS and EOS; a tokenizer without a first token simply has none.
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    stop = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    return [first] if first is not None else [], [stop] if stop is not None else []
