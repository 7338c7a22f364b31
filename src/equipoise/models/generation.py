"""Batched greedy decoding with the same replies as one at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import UsageError
from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import DifferentiableProcessor, encode
from equipoise.models.encoded_prompt import check_pictures
from equipoise.types import Exchange, FinishReason, Prompt


@contextmanager
def left_padding(processor: Any) -> Iterator[None]:
    """Prompts end at the same place, so that replies begin there; a padding token is chosen where there is none."""
    tokenizer = processor.tokenizer
    # A Q-Former reads its own copy of the question, at absolute positions: that copy is padded to the right.
    reader = getattr(processor, "qformer_tokenizer", None)
    before = [(each, each.padding_side, each.pad_token) for each in (tokenizer, reader) if each is not None]
    try:
        for each, _, token in before:
            each.padding_side = "left" if each is tokenizer else "right"
            if token is None:
                each.pad_token = each.eos_token
        yield
    finally:
        for each, side, token in before:
            each.padding_side = side
            if each.pad_token != token:
                each.pad_token = token


def greedy(model: Any, stops: Sequence[int], limit: int) -> Any:
    """A generation config that decodes greedily, whatever the model's own defaults."""
    config = copy.deepcopy(model.generation_config)
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


def generate(
    model: Any,
    processor: Any,
    chat: ConversationFormat,
    path: DifferentiableProcessor,
    prompts: Sequence[Prompt],
    config: Any,
    who: str,
) -> list[Exchange]:
    """One exchange for each prompt; prompts with the same number of pictures share a batch."""
    for prompt in prompts:
        check_pictures(processor, prompt)
        if chat.form == "plain" and not prompt.pictures:
            name = type(processor).__name__
            raise UsageError(f"expected a picture in every prompt for {name}, got none; try adding one")
    replies: dict[int, Exchange] = {}
    for count in sorted({len(prompt.pictures) for prompt in prompts}):
        places = [i for i, prompt in enumerate(prompts) if len(prompt.pictures) == count]
        batch = [prompts[i] for i in places]
        images = [list(prompt.pictures) for prompt in batch] if count else None
        with left_padding(processor):
            inputs = encode(processor, images, [chat.render(prompt) for prompt in batch], padding=True)
        inputs.pop("labels", None)
        inputs = {key: value for key, value in inputs.items() if value is not None}
        asked = inputs["input_ids"].shape[1]
        with torch.no_grad():
            output: Tensor = model.generate(**path.to_device(inputs), generation_config=config)
        # Some families return the prompt with the reply, others only the reply.
        starts_with_prompt = output.shape[1] >= asked and torch.equal(
            output[:, :asked].cpu(), inputs["input_ids"].to(output.dtype)
        )
        for i, prompt, tokens in zip(places, batch, output[:, asked if starts_with_prompt else 0 :], strict=True):
            replies[i] = _exchange(processor, prompt, tokens, config.eos_token_id, who)
    return [replies[i] for i in range(len(prompts))]


def _exchange(processor: Any, prompt: Prompt, tokens: Tensor, stops: Sequence[int], who: str) -> Exchange:
    ended = bool(torch.isin(tokens, torch.tensor(list(stops), device=tokens.device)).any())
    finish: FinishReason = "stop" if ended else "length"
    text = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return Exchange(prompt, text, finish, who)
