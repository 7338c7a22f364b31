"""Prompts and replies as rows of tokens, with everything else a family wants beside them.

A processor turns a prompt into `input_ids` and, depending on the family, further tensors. Three kinds must be
told apart in order to append replies, to batch prompts and to share a prefix:

- image inputs (`pixel_values`, sizes, masks of tiles) belong to the pictures; `DifferentiableProcessor` makes them;
- token inputs (`token_type_ids`, `cross_attention_mask`) have one entry per token, and are extended over the reply;
- text inputs (the question as InstructBLIP's Q-Former reads it) depend on the text and are passed on as they are.
"""

from __future__ import annotations

from collections import OrderedDict
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
from equipoise.models.differentiable_processor import encode
from equipoise.models.reply_tokens import reply_tokens
from equipoise.types import Prompt

CACHE_SIZE = 4096
PROMPTS_KEPT = 256
"""Prompts of which the processor's outputs are kept: each shadow question of an attack meets several replies."""
_BLANK = new_image("RGB", (1, 1))
_DROPPED = frozenset({"labels", "attention_mask", "input_ids"})


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt with its reply: a row of a batch."""

    tokens: Tensor
    """`T` token ids: the prompt, then the reply."""
    prompt_length: int
    """Tokens of the prompt."""
    picture_end: int
    """Index after the last token of the last picture; 0 where pictures have no tokens."""
    token_inputs: Mapping[str, Tensor]
    """Inputs with one entry per token: `1 x T x ...`."""
    text_inputs: Mapping[str, Tensor]
    """Inputs that depend on the text but are not aligned with it (the question as InstructBLIP's Q-Former reads it)."""
    text: str
    """The prompt as rendered."""
    other_pictures: tuple[Image, ...]
    """The prompt's pictures after the first."""
    reply_starts: tuple[int, ...] = ()
    """For each token of the reply but the one that ends it, the index of its first character in the reply's text;
    below zero for white space of the template in front of it."""

    @property
    def reply_length(self) -> int:
        """Tokens of the reply."""
        return len(self.tokens) - self.prompt_length


def require_supported_pictures(processor: Any, chat: ConversationFormat, prompt: Prompt) -> None:
    """Raise an error for a number of pictures that the processor cannot take.

    Raises:
        ModelError: any where there is no image processor.
        UsageError: several where the processor takes one and would drop the others, or none where it needs one.
    """
    count, name = len(prompt.pictures), type(processor).__name__
    if count and not hasattr(processor, "image_processor"):
        raise ModelError(
            "expected prompts without pictures for a model that reads text only, got a picture; "
            "try a model that reads pictures, such as testbed/llava"
        )
    if count > 1 and hasattr(processor, "num_query_tokens"):
        raise UsageError(f"expected one picture in a prompt for {name}, got {count}; try a model that takes several")
    if not count and chat.form == "plain":
        raise UsageError(f"expected a picture in every prompt for {name}, got none; try adding one")


@dataclass(frozen=True, eq=False)
class _Processed:
    """A prompt as the processor reads it."""

    text: str
    """As the chat template writes it."""
    separator: str
    """What the template puts before a reply."""
    outputs: Mapping[str, Any]
    """Of the processor, without those that are computed from the pictures."""
    is_pictured: bool
    other_pictures: tuple[Image, ...]
    """All but the first."""


class PromptEncoder:
    """Encodes prompts and caches the result: the processor runs once per prompt, reply and picture size."""

    def __init__(
        self,
        processor: Any,
        chat: ConversationFormat,
        end_token: int,
        picture_tokens: set[int],
        image_input_names: frozenset[str],
    ) -> None:
        self._processor = processor
        self._chat = chat
        self._image_input_names = image_input_names
        self._end = end_token
        self._picture_tokens = torch.tensor(sorted(picture_tokens))
        self._cache: dict[Any, EncodedPrompt] = {}
        self._prompts: OrderedDict[Any, _Processed] = OrderedDict()

    def encode(self, prompt: Prompt, pixels: Tensor | None, reply: str, *, end: bool) -> EncodedPrompt:
        """The row of one prompt whose first picture is replaced by `pixels`, of which only the size matters.

        Args:
            prompt: the prompt.
            pixels: `3 x H x W`; None for a prompt without pictures.
            reply: what follows it.
            end: whether the end-of-reply token belongs to the reply.

        Raises:
            UsageError: an empty reply, or a picture without pixels.
            ModelError: the processor leaves no trace of the picture in the prompt, or reads none.
        """
        if not reply:
            raise UsageError("expected a reply, got an empty text; try the sentence whose probability is wanted")
        if pixels is not None:
            # The pixels stand for the first picture, also of a prompt that carries none (a question about any picture).
            prompt = prompt.with_picture(_BLANK)
        require_supported_pictures(self._processor, self._chat, prompt)
        if pixels is None and prompt.pictures:
            raise UsageError("expected pixels for a prompt with a picture, got None; try to_pixels(picture)")
        key = (*_key(prompt), None if pixels is None else tuple(pixels.shape), reply, end)
        if key not in self._cache:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = self._row(self._processed(prompt, pixels), reply, end)
        return self._cache[key]

    def encode_with_pictures(self, prompt: Prompt, reply: str, *, end: bool) -> EncodedPrompt:
        """The row of a prompt with the pictures that it holds, as a training reads it; nothing is cached.

        Raises:
            UsageError: a number of pictures that the processor cannot take, or a reply without tokens.
            ModelError: pictures for a processor that takes none.
        """
        require_supported_pictures(self._processor, self._chat, prompt)
        return self._row(self._processed(prompt, None), reply, end)

    def image_inputs(self, prompt: Prompt) -> dict[str, Any]:
        """What the processor makes of the prompt's pictures; empty without pictures."""
        if not prompt.pictures:
            return {}
        outputs = encode(self._processor, [list(prompt.pictures)], [self._chat.render(prompt)])
        return {key: value for key, value in outputs.items() if key in self._image_input_names}

    def _row(self, processed: _Processed, reply: str, end: bool) -> EncodedPrompt:
        encoded = processed.outputs
        prompt_tokens: Tensor = encoded["input_ids"][0].cpu()
        # The reply is tokenized after the prompt's text, not by itself: a word that follows a space or a line break has
        # other tokens than the same word at the beginning of a text, and the model would never write those.
        tokens = reply_tokens(self._processor.tokenizer, processed.text, processed.separator + reply)
        ids = [*tokens.ids, *([self._end] if end else [])]
        token_inputs, text_inputs = {}, {}
        for key, value in encoded.items():
            if key in _DROPPED or not isinstance(value, Tensor):
                continue
            # A Q-Former's copy of the question may by chance be as long as the prompt; its name tells them apart.
            if value.ndim >= 2 and value.shape[1] == len(prompt_tokens) and not key.startswith("qformer"):
                token_inputs[key] = extend_over_reply(key, value, len(ids))
            else:
                text_inputs[key] = value
        picture_indices = torch.isin(prompt_tokens, self._picture_tokens).nonzero()
        if processed.is_pictured and not len(picture_indices) and "cross_attention_mask" not in encoded:
            raise ModelError(
                f"expected picture tokens in the prompt, got none from {type(self._processor).__name__}, which reads "
                "the picture apart from the text: it can be asked but not attacked; try a family of doctor's list"
            )
        return EncodedPrompt(
            tokens=torch.cat([prompt_tokens, torch.tensor(ids, dtype=prompt_tokens.dtype)]),
            prompt_length=len(prompt_tokens),
            picture_end=int(picture_indices.max()) + 1 if len(picture_indices) else 0,
            token_inputs=token_inputs,
            text_inputs=text_inputs,
            text=processed.text,
            other_pictures=processed.other_pictures,
            reply_starts=tuple(start - len(processed.separator) for start in tokens.starts),
        )

    def _processed(self, prompt: Prompt, pixels: Tensor | None) -> _Processed:
        """A prompt as the processor reads it, its first picture replaced by pixels; kept for other replies to it."""
        first = prompt.pictures[:1]
        size = tuple(pixels.shape[-2:]) if pixels is not None else first[0].size[::-1] if first else None
        key = (*_key(prompt), size)
        if key not in self._prompts:
            pictures = (*(first if pixels is None else (to_image(pixels),)), *prompt.pictures[1:])
            text = self._chat.render(prompt)
            encoded = encode(self._processor, [list(pictures)] if pictures else None, [text])
            outputs = {name: value for name, value in encoded.items() if name not in self._image_input_names}
            separator = self._chat.reply_separator(prompt)
            # Not the first picture: of large ones, those of all prompts would fill the memory.
            self._prompts[key] = _Processed(text, separator, outputs, bool(pictures), pictures[1:])
            if len(self._prompts) > PROMPTS_KEPT:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return self._prompts[key]


def _key(prompt: Prompt) -> tuple[Any, ...]:
    """What tells a prompt from others, except the size of its first picture."""
    turns = tuple((message.role, message.text, len(message.images)) for message in prompt.messages)
    # Comparing pictures by value would cost more than encoding them. Those of a key are kept alive by what it leads to,
    # so that no other picture can get the id of one.
    return turns, prompt.system, prompt.prefill, prompt.templated, tuple(map(id, prompt.pictures[1:]))


def extend_over_reply(key: str, value: Tensor, extra: int) -> Tensor:
    """A token-aligned input, continued over the reply."""
    if key == "cross_attention_mask":
        # The reply sees the pictures that the last token of the prompt saw.
        tail = value[:, -1:].expand(-1, extra, *value.shape[2:])
    elif key == "token_type_ids" and not bool(value.any()):
        # PaliGemma: 0 is read in both directions, 1 is what is to be written. Gemma 3 marks pictures with 1.
        tail = value.new_ones(1, extra)
    else:
        tail = value.new_zeros(1, extra, *value.shape[2:])
    return torch.cat([value, tail], dim=1)


def common_prefix(rows: list[EncodedPrompt], *, limit: int | None = None) -> int:
    """Length of the longest token prefix that all rows share and that leaves each its last prompt token."""
    # The last token of the prompt stays outside: its logits predict the first token of the reply.
    shortest = min(row.prompt_length for row in rows) - 1
    shortest = shortest if limit is None else min(shortest, limit)
    tokens = torch.stack([row.tokens[:shortest] for row in rows])
    differs = (tokens != tokens[:1]).any(0).nonzero()
    return int(differs[0]) if len(differs) else shortest
