"""Batched greedy decoding with the same replies as one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from equipoise.errors import ModelError
from equipoise.models.attention_limits import batch_limit, context_limit
from equipoise.models.chat import ConversationFormat
from equipoise.models.decoding import cut_at_stop, decode, stop_texts, without_padding
from equipoise.models.differentiable_processor import begins_with_bos, encode
from equipoise.models.encoded_prompt import require_supported_pictures
from equipoise.models.length_groups import STEP_ON_CPU, STEP_ON_GPU, length_groups
from equipoise.types import Exchange, FinishReason, Prompt


@contextmanager
def left_padding(processor: Any) -> Iterator[None]:
    """Prompts end at the same place, so that replies begin there; a padding token is chosen where there is none."""
    tokenizer = processor.tokenizer
    # A Q-Former reads its own copy of the question, at absolute positions: that copy is padded to the right.
    reader = getattr(processor, "qformer_tokenizer", None)
    before = [(part, part.padding_side, part.pad_token) for part in (tokenizer, reader) if part is not None]
    try:
        for part, _, token in before:
            part.padding_side = "left" if part is tokenizer else "right"
            if token is None:
                # Any token will do: the attention mask hides it.
                part.pad_token = part.eos_token or part.convert_ids_to_tokens(0)
        yield
    finally:
        for part, side, token in before:
            part.padding_side = side
            if part.pad_token != token:
                part.pad_token = token


class PaddingError(RuntimeError):
    """These prompts get other replies together than alone."""


def length_batches(
    processor: Any, chat: ConversationFormat, prompts: Sequence[Prompt], *, size: int, steps: int, device: torch.device
) -> list[list[int]]:
    """Indices of prompts that are decoded together: as many pictures each, the same beginning, similar lengths.

    Args:
        processor: whose tokenizer counts.
        chat: writes the conversations.
        prompts: all that are asked.
        size: prompts of a batch at most.
        steps: tokens of a reply at most.
        device: of the model.
    """
    cost = STEP_ON_CPU if device.type == "cpu" else STEP_ON_GPU
    batches = []
    texts = [chat.render(prompt) for prompt in prompts]
    # Special tokens are added to all texts of a batch or to none.
    kinds = [
        (len(prompt.pictures), begins_with_bos(processor, text)) for prompt, text in zip(prompts, texts, strict=True)
    ]
    for kind in sorted(set(kinds)):
        indices = [i for i, other in enumerate(kinds) if other == kind]
        # Without what stands for the pictures, which is about as long in every prompt of a batch.
        alike = [texts[i] for i in indices]
        lengths = [len(ids) for ids in processor.tokenizer(alike, verbose=False)["input_ids"]]
        for group in length_groups(lengths, steps, size=size, step_cost=cost):
            batches.append([indices[i] for i in group])
    return batches


def generate(
    model: Any,
    processor: Any,
    chat: ConversationFormat,
    prompts: Sequence[Prompt],
    config: Any,
    model_name: str,
) -> list[tuple[Exchange, list[int]]]:
    """The exchange of each prompt of a batch, with as many pictures each, and the tokens of its reply.

    Raises:
        ModelError: a prompt leaves no room for a reply in the model's context.
        PaddingError: the prompts differ in length and are so long that the shorter ones would get other replies.
    """
    for prompt in prompts:
        require_supported_pictures(processor, chat, prompt)
    inputs = without_padding(prompt_inputs(processor, chat, prompts), config)
    prompt_length = inputs["input_ids"].shape[1]
    _require_room(model, prompt_length)
    if is_padded(inputs) and prompt_length + config.max_new_tokens > (batch_limit(model) or math.inf):
        raise PaddingError("padding would change what the model reads")
    output = decode(model, inputs, config)
    # Some families return the prompt with the reply, others only the reply.
    starts_with_prompt = output.shape[1] >= prompt_length and torch.equal(
        output[:, :prompt_length].cpu(), inputs["input_ids"].to(output.dtype)
    )
    begin = prompt_length if starts_with_prompt else 0
    stops = torch.tensor(list(config.eos_token_id), device=output.device)
    texts = stop_texts(model)
    replies = []
    for prompt, tokens in zip(prompts, output[:, begin:], strict=True):
        ends = torch.isin(tokens, stops).nonzero()
        if starts_with_prompt and len(ends):
            # What follows is padding. Decoders with an input of their own may also begin with a stop token.
            tokens = tokens[: int(ends[0])]
        cut = cut_at_stop(processor.tokenizer, tokens, texts)
        finish: FinishReason = "stop" if len(ends) or cut is not None else "length"
        tokens = tokens if cut is None else cut
        text = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        replies.append((Exchange(prompt, text, finish, model_name), tokens.tolist()))
    return replies


def _require_room(model: Any, tokens: int) -> None:
    """Raise an error where the longest prompt of a batch fills the context: what a model says beyond is noise."""
    limit = context_limit(model)
    if limit is not None and tokens >= limit:
        raise ModelError(
            f"expected a prompt that leaves room for a reply in this model's context of {limit} tokens, got {tokens}; "
            "try a shorter one"
        )


def is_padded(inputs: Mapping[str, Any]) -> bool:
    """Whether rows of a batch differ in length."""
    return not bool(inputs.get("attention_mask", torch.ones(1)).bool().all())


def prompt_inputs(processor: Any, chat: ConversationFormat, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Inputs of a forward pass over prompts with as many pictures each, padded on the left."""
    # Processors cannot build a rectangular batch of prompts with different numbers of pictures.
    images = [list(prompt.pictures) for prompt in prompts] if prompts[0].pictures else None
    with left_padding(processor):
        inputs = encode(processor, images, [chat.render(prompt) for prompt in prompts], padding=True)
    inputs.pop("labels", None)
    return {key: value for key, value in inputs.items() if value is not None}
