"""Log-probabilities of replies in a plain batch: one row for each prompt, its pictures repeated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from equipoise.models.attention_limits import position_limit
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.state import prompt_lengths, shifted_embeddings


def forward_logits(model: Any, keep: Tensor, **inputs: Any) -> Tensor:
    """Logits at the token indices `keep` only: with real vocabularies logits are most of the memory."""
    if _slices_logits(type(model).forward):
        logits: Tensor = model(**inputs, logits_to_keep=keep, return_dict=True).logits
        if logits.shape[1] == len(keep):
            return logits
    else:
        logits = model(**inputs, return_dict=True).logits
    return logits[:, keep]


@lru_cache
def _slices_logits(forward: Callable[..., Any]) -> bool:
    return "logits_to_keep" in inspect.signature(forward).parameters


def target_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities (float32) of `targets`, whose shape is that of `logits` without the vocabulary."""
    # Subtracting the normaliser of the gathered logit saves a second tensor of the size of the vocabulary.
    logits = logits.float()
    return logits.gather(-1, targets[..., None]).squeeze(-1) - logits.logsumexp(-1)


def plain_log_probs(
    model: Any, rows: Sequence[EncodedPrompt], images: Mapping[str, Any], shift: Tensor | None = None
) -> list[Tensor]:
    """Token log-probabilities of each row's reply.

    Args:
        model: a transformers image-text-to-text model.
        rows: prompts with the same pictures.
        images: image inputs of one prompt.
        shift: `N x L x width`, added to the embeddings of the first L tokens after the picture.
    """
    lengths = {len(row.tokens) for row in rows}
    if len(lengths) > 1 and max(lengths) > (position_limit(model) or max(lengths)):
        # The longest row would change the rotary frequencies of the others.
        parts = [(row, None if shift is None else shift[i : i + 1]) for i, row in enumerate(rows)]
        return [log_probs for row, part in parts for log_probs in batch_log_probs(model, [row], images, part)]
    return batch_log_probs(model, rows, repeat_images(images, len(rows)), shift)


def batch_log_probs(
    model: Any, rows: Sequence[EncodedPrompt], images: Mapping[str, Any], shift: Tensor | None = None
) -> list[Tensor]:
    """Token log-probabilities of each row's reply, each row with pictures of its own.

    Args:
        model: a transformers image-text-to-text model.
        rows: prompts.
        images: image inputs of all prompts, as `concatenate_images` returns them.
        shift: as in `plain_log_probs`.
    """
    if is_encoder_decoder(model):
        return _decoder_log_probs(model, rows, images)
    device = model.device
    # The last token of a reply predicts nothing that is wanted.
    tokens = pad_right([row.tokens[None, :-1] for row in rows]).to(device)
    lengths = torch.tensor([len(row.tokens) - 1 for row in rows], device=device)
    mask = (torch.arange(tokens.shape[1], device=device) < lengths[:, None]).long()
    inputs = {**images, "input_ids": tokens, "attention_mask": mask}
    for key in rows[0].token_inputs:
        inputs[key] = pad_right([row.token_inputs[key][:, :-1] for row in rows]).to(device)
    for key in rows[0].text_inputs:
        inputs[key] = pad_right([row.text_inputs[key] for row in rows]).to(device)
    # The logits at token t predict token t + 1: those from the last prompt token on predict the reply.
    start = min(row.prompt_length for row in rows) - 1
    keep = torch.arange(start, tokens.shape[1], device=device)
    embedded = None if shift is None else _padded_shift(shift, rows, tokens.shape[1]).to(device)
    with shifted_embeddings(model, embedded), prompt_lengths([row.prompt_length for row in rows]):
        logits = forward_logits(model, keep, use_cache=False, **inputs)
    replies = [logits[i, row.prompt_length - 1 - start :][: row.reply_length] for i, row in enumerate(rows)]
    targets = [row.tokens[row.prompt_length :].to(device) for row in rows]
    return [target_log_probs(reply, target) for reply, target in zip(replies, targets, strict=True)]


def is_encoder_decoder(model: Any) -> bool:
    """Whether the prompt is read by an encoder and the reply written by a decoder, as in Flan-T5 and BART."""
    text = model.config.get_text_config()
    return bool(getattr(text, "is_encoder_decoder", False) or getattr(model.config, "is_encoder_decoder", False))


def _decoder_log_probs(model: Any, rows: Sequence[EncodedPrompt], images: Mapping[str, Any]) -> list[Tensor]:
    """As `batch_log_probs`, where an encoder reads the prompt: the decoder sees its start token and the reply."""
    device = model.device
    prompts = pad_right([row.tokens[None, : row.prompt_length] for row in rows]).to(device)
    lengths = torch.tensor([row.prompt_length for row in rows], device=device)
    inputs = {**images, "input_ids": prompts}
    inputs["attention_mask"] = (torch.arange(prompts.shape[1], device=device) < lengths[:, None]).long()
    for key in rows[0].token_inputs:
        inputs[key] = pad_right([row.token_inputs[key][:, : row.prompt_length] for row in rows]).to(device)
    for key in rows[0].text_inputs:
        inputs[key] = pad_right([row.text_inputs[key] for row in rows]).to(device)
    replies = [row.tokens[row.prompt_length :] for row in rows]
    begin = torch.tensor([decoder_start(model)])
    # Padding on the right is never seen from the left, so that it needs no mask in a causal decoder.
    decoder = pad_right([torch.cat([begin, reply[:-1]])[None] for reply in replies]).to(device)
    logits = model(**inputs, decoder_input_ids=decoder, use_cache=False, return_dict=True).logits
    return [target_log_probs(logits[i, : len(reply)], reply.to(device)) for i, reply in enumerate(replies)]


def decoder_start(model: Any) -> int:
    """The token that a decoder begins with."""
    text = model.config.get_text_config()
    candidates = [
        getattr(owner, name, None)
        for owner in (model.generation_config, text, model.config)
        for name in ("decoder_start_token_id",)
    ]
    candidates += [getattr(text, "bos_token_id", None), getattr(text, "pad_token_id", None)]
    return int(next(token for token in candidates if token is not None))


def repeat_images(images: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Image inputs of one prompt for `count` prompts with the same pictures."""
    if count == 1:
        return dict(images)
    return {
        key: value.repeat(count, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value * count
        for key, value in images.items()
    }


def concatenate_images(images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Image inputs of several prompts, each with its own, as one batch."""
    return {
        key: torch.cat([inputs[key] for inputs in images])
        if isinstance(first, Tensor)
        else type(first)(value for inputs in images for value in inputs[key])
        for key, first in images[0].items()
    }


def same_shape(images: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Indices of image inputs that fit into one batch: tiled pictures differ in their number of tiles."""
    groups: dict[Any, list[int]] = {}
    for index, inputs in enumerate(images):
        shapes = tuple((key, value.shape[1:]) for key, value in inputs.items() if isinstance(value, Tensor))
        groups.setdefault(shapes, []).append(index)
    return list(groups.values())


def pad_right(rows: Sequence[Tensor]) -> Tensor:
    """`1 x T x ...` tensors in one batch, zeros to the right."""
    longest = max(row.shape[1] for row in rows)
    return torch.cat(
        [torch.cat([row, row.new_zeros(1, longest - row.shape[1], *row.shape[2:])], dim=1) for row in rows]
    )


def _padded_shift(shift: Tensor, rows: Sequence[EncodedPrompt], length: int) -> Tensor:
    """The shifts laid out like the padded batch, `N x T x width`."""
    padded = []
    for row, values in zip(rows, shift, strict=True):
        values = values[: row.prompt_length - row.picture_end]
        before = values.new_zeros(row.picture_end, values.shape[1])
        after = values.new_zeros(length - row.picture_end - len(values), values.shape[1])
        padded.append(torch.cat([before, values, after]))
    return torch.stack(padded)
