"""Prompts and replies as rows of tokens, with everything else a family wants beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from PIL.Image import new as new_image
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.media.quantize import to_image
from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import DifferentiableProcessor
from equipoise.types import Prompt

CACHE_SIZE = 4096
_BLANK = new_image("RGB", (1, 1))
_DROPPED = frozenset({"labels", "attention_mask", "input_ids"})


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt with its reply."""

    tokens: Tensor
    """`T` token ids: the prompt, then the reply."""
    prompt_length: int
    """Tokens of the prompt."""
    picture_end: int
    """The place after the last token of the last picture."""
    aligned: Mapping[str, Tensor]
    """Inputs with one entry per token: `1 x T x ...`."""
    loose: Mapping[str, Tensor]
    """Inputs that depend on the text but are not aligned with it (the question as InstructBLIP's Q-Former reads it)."""
    text: str
    """The prompt as rendered."""
    others: tuple[Image, ...]
    """The prompt's pictures after the first."""

    @property
    def reply_length(self) -> int:
        """Tokens of the reply."""
        return len(self.tokens) - self.prompt_length


def check_pictures(processor: Any, prompt: Prompt) -> None:
    """Raise `UsageError` for several pictures where the processor takes one and would drop the others."""
    count = len(prompt.pictures)
    if count > 1 and hasattr(processor, "num_query_tokens"):
        name = type(processor).__name__
        raise UsageError(f"expected one picture in a prompt for {name}, got {count}; try a model that takes several")


class PromptEncoder:
    """Makes rows and remembers them: per prompt, reply and picture size, the processor is asked once."""

    def __init__(
        self,
        processor: Any,
        chat: ConversationFormat,
        path: DifferentiableProcessor,
        end_token: int,
        picture_tokens: set[int],
    ) -> None:
        self._processor = processor
        self._chat = chat
        self._path = path
        self._end = end_token
        self._picture_tokens = torch.tensor(sorted(picture_tokens))
        self._known: dict[Any, EncodedPrompt] = {}
        self._last_key: Any = None
        self._last: Mapping[str, Any] = {}

    def encode(self, prompt: Prompt, pixels: Tensor, reply: str, *, end: bool) -> EncodedPrompt:
        """The row of one prompt whose first picture is replaced by `pixels`, of which only the size matters.

        Raises:
            UsageError: an empty reply.
            ModelError: the processor leaves no trace of the picture in the prompt.
        """
        if not reply:
            raise UsageError("expected a reply, got an empty text; try the sentence whose probability is wanted")
        prompt = prompt.with_picture(_BLANK)
        check_pictures(self._processor, prompt)
        others = prompt.pictures[1:]
        turns = tuple((message.role, message.text, len(message.images)) for message in prompt.messages)
        # Pictures are kept in the row, so an id cannot be given to another one while it is a key.
        key = (turns, prompt.system, tuple(map(id, others)), tuple(pixels.shape), reply, end)
        if key not in self._known:
            if len(self._known) >= CACHE_SIZE:
                self._known.clear()
            self._known[key] = self._make(prompt, to_image(pixels), others, reply, end)
        return self._known[key]

    def _make(self, prompt: Prompt, picture: Image, others: tuple[Image, ...], reply: str, end: bool) -> EncodedPrompt:
        text = self._chat.render(prompt)
        encoded = self._encoded(text, picture, others)
        asked: Tensor = encoded["input_ids"][0].cpu()
        answer = self._reply_tokens(text, self._chat.lead(prompt) + reply) + [self._end] * end
        aligned, loose = {}, {}
        for key, value in encoded.items():
            if key in _DROPPED or key in self._path.keys or not isinstance(value, Tensor):
                continue
            if value.ndim >= 2 and value.shape[1] == len(asked) and not key.startswith("qformer"):
                aligned[key] = _extended(key, value, len(answer))
            else:
                loose[key] = value
        places = torch.isin(asked, self._picture_tokens).nonzero()
        if not len(places) and "cross_attention_mask" not in encoded:
            raise ModelError(
                "expected picture tokens in the prompt, got none; try a processor that belongs to the model"
            )
        return EncodedPrompt(
            tokens=torch.cat([asked, torch.tensor(answer, dtype=asked.dtype)]),
            prompt_length=len(asked),
            picture_end=int(places.max()) + 1 if len(places) else 0,
            aligned=aligned,
            loose=loose,
            text=text,
            others=others,
        )

    def _encoded(self, text: str, picture: Image, others: tuple[Image, ...]) -> Mapping[str, Any]:
        """What the processor makes of a prompt; the last one is kept, as many replies to it often come in a row."""
        key = (text, picture.size, tuple(map(id, others)))
        if key != self._last_key:
            self._last_key, self._last = key, self._path.encode([picture, *others], text)
        return self._last

    def _reply_tokens(self, text: str, reply: str) -> list[int]:
        """Tokens of the reply in its place: most tokenizers write a text's first word differently from a later one."""
        tokenizer = self._processor.tokenizer
        before = tokenizer(text, add_special_tokens=False)["input_ids"]
        whole = tokenizer(text + reply, add_special_tokens=False)["input_ids"]
        if whole[: len(before)] == before and len(whole) > len(before):
            return list(whole[len(before) :])
        alone = list(tokenizer(reply.strip(), add_special_tokens=False)["input_ids"])
        if not alone:
            raise UsageError(f"expected a reply with words, got {reply!r}, which has no tokens; try a sentence")
        return alone


def _extended(key: str, value: Tensor, extra: int) -> Tensor:
    """A token-aligned input, continued over the reply."""
    if key == "cross_attention_mask":
        tail = value[:, -1:].expand(-1, extra, *value.shape[2:])
    elif key == "token_type_ids" and not bool(value.any()):
        # PaliGemma: 0 is read in both directions, 1 is what is to be written. Gemma 3 marks pictures with 1.
        tail = value.new_ones(1, extra)
    else:
        tail = value.new_zeros(1, extra, *value.shape[2:])
    return torch.cat([value, tail], dim=1)


def common_prefix(rows: list[EncodedPrompt], *, limit: int | None = None) -> int:
    """Length of the longest token prefix that all rows share and that leaves each its last prompt token."""
    shortest = min(row.prompt_length for row in rows) - 1
    shortest = shortest if limit is None else min(shortest, limit)
    tokens = torch.stack([row.tokens[:shortest] for row in rows])
    differs = (tokens != tokens[:1]).any(0).nonzero()
    return int(differs[0]) if len(differs) else shortest
