"""Batched greedy decoding with the same replies as one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import begins_with_bos, encode, to_device
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


def greedy_config(model: Any, stops: Sequence[int], limit: int) -> Any:
    """A generation config that decodes greedily, whatever the model's own defaults."""
    config = copy.deepcopy(model.generation_config)
    # Sampling settings are cleared, not only unused: transformers warns of a temperature where nothing is sampled.
    config.update(
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        max_length=None,
        max_new_tokens=limit,
        eos_token_id=list(stops),
    )
    if config.pad_token_id is None:
        config.pad_token_id = stops[0]
    return config


NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "guidance_scale": (1,),
    "bad_words_ids": (),
    "suppress_tokens": ((), []),
    "begin_suppress_tokens": ((), []),
    "sequence_bias": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
}
"""Settings of a generation config that change scores before a token is chosen, with the values that change nothing
beside None."""


def takes_likeliest(model: Any) -> bool:
    """Whether greedy decoding of a model always takes its likeliest token, with no penalties or forced tokens."""
    config = model.generation_config
    return all(getattr(config, name, None) in (None, *values) for name, values in NEUTRAL.items())


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
    """The exchange of each prompt of a batch, with as many pictures each, and the tokens of its reply."""
    for prompt in prompts:
        require_supported_pictures(processor, chat, prompt)
    inputs = prompt_inputs(processor, chat, prompts)
    prompt_length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        output: Tensor = model.generate(**to_device(inputs, model.device, model.dtype), generation_config=config)
    # Some families return the prompt with the reply, others only the reply.
    starts_with_prompt = output.shape[1] >= prompt_length and torch.equal(
        output[:, :prompt_length].cpu(), inputs["input_ids"].to(output.dtype)
    )
    begin = prompt_length if starts_with_prompt else 0
    stops = torch.tensor(list(config.eos_token_id), device=output.device)
    replies = []
    for prompt, tokens in zip(prompts, output[:, begin:], strict=True):
        ends = torch.isin(tokens, stops).nonzero()
        if starts_with_prompt and len(ends):
            # What follows is padding. Decoders with an input of their own may also begin with a stop token.
            tokens = tokens[: int(ends[0])]
        finish: FinishReason = "stop" if len(ends) else "length"
        text = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        replies.append((Exchange(prompt, text, finish, model_name), tokens.tolist()))
    return replies


def prompt_inputs(processor: Any, chat: ConversationFormat, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Inputs of a forward pass over prompts with as many pictures each, padded on the left."""
    # Processors cannot build a rectangular batch of prompts with different numbers of pictures.
    images = [list(prompt.pictures) for prompt in prompts] if prompts[0].pictures else None
    with left_padding(processor):
        inputs = encode(processor, images, [chat.render(prompt) for prompt in prompts], padding=True)
    inputs.pop("labels", None)
    return {key: value for key, value in inputs.items() if value is not None}
