"""Forward passes over prompts: the token where the reply begins, and where the instruction ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.models.encoded_prompt import extend_over_reply
from equipoise.models.length_groups import picture_batches
from equipoise.models.reply_log_probs import forward_logits
from equipoise.models.state import prompt_lengths
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt

BATCH: Final = 16
"""Prompts in one forward pass."""
StageProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, the units done and their number."""
_PROBES: Final = ("Describe a tree.", "What is 7 + 9", "zebra quartz!", "Name 3 rivers?")
"""Texts with different ends, so that they share nothing with each other but the template."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    """Says nothing."""


def prompt_inputs(steerable: Steerable, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Keyword arguments of one forward pass over prompts with as many pictures each, padded on the left.

    Raises:
        ModelError: the steerable has no processor.
    """
    if steerable.open_model is None:
        raise ModelError("expected a model with its processor, got bare weights; try Steerable.of(load(name))")
    return steerable.open_model.prompt_inputs(prompts)


def post_instruction_length(steerable: Steerable) -> int:
    """How many tokens every prompt ends with after the instruction: what its template writes; at least 1.

    Whole prompts are rendered and compared from the end. A template's ending, tokenised alone, may be other tokens:
    SentencePiece puts a space in front of a text, and special tokens are added.
    """
    rows = [prompt_inputs(steerable, [Prompt.ask(text)])["input_ids"][0].tolist() for text in _PROBES]
    shared = min(_common_suffix(one, other) for one, other in combinations(rows, 2))
    return max(shared, 1)


def _common_suffix(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def forward_batches(
    steerable: Steerable, prompts: Sequence[Prompt], size: int = BATCH
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Batches of prompts with their inputs, as indices into `prompts`."""
    for indices in picture_batches(prompts, size):
        yield indices, prompt_inputs(steerable, [prompts[i] for i in indices])


def run_prompts(steerable: Steerable, inputs: dict[str, Any]) -> None:
    """One forward pass for what hooks see; logits of one token only."""
    next_token_log_probs(steerable, inputs)


def next_token_log_probs(steerable: Steerable, inputs: dict[str, Any], continued_by: Sequence[int] = ()) -> Tensor:
    """`B x V` log-probabilities (float32) of the token after the prompts, or after a few more tokens.

    Args:
        steerable: the model.
        inputs: of prompts, padded on the left.
        continued_by: tokens that the reply has begun with.
    """
    return _last_log_probs(steerable, inputs, continued_by, 1)[:, 0]


def reply_start_log_probs(steerable: Steerable, inputs: dict[str, Any], reply: Sequence[int]) -> Tensor:
    """`B x (N + 1) x V` log-probabilities (float32) after the prompts and after each of N tokens of a reply.

    One forward pass: attention is causal, so what comes after a token does not change what was predicted before it.

    Args:
        steerable: the model.
        inputs: of prompts, padded on the left.
        reply: the N tokens that the reply begins with.
    """
    return _last_log_probs(steerable, inputs, reply, len(reply) + 1)


def _last_log_probs(steerable: Steerable, inputs: dict[str, Any], reply: Sequence[int], count: int) -> Tensor:
    lengths = inputs["attention_mask"].sum(1).tolist()
    inputs = _continued(inputs, reply) if reply else inputs
    width = inputs["input_ids"].shape[1]
    # Padding is on the left: the last columns are the last tokens of every row.
    keep = torch.arange(width - count, width, device=inputs["input_ids"].device)
    with steerable.frozen(), torch.no_grad(), prompt_lengths(lengths):
        logits = forward_logits(steerable.model, keep, use_cache=False, **inputs)
    return logits.float().log_softmax(-1)


def _continued(inputs: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any]:
    ids = inputs["input_ids"]
    more = torch.tensor(list(tokens), dtype=ids.dtype, device=ids.device).expand(len(ids), -1)
    longer = dict(inputs)
    for key, value in inputs.items():
        if key == "input_ids":
            longer[key] = torch.cat([ids, more], 1)
        elif key == "attention_mask":
            longer[key] = torch.cat([value, torch.ones_like(more)], 1)
        elif isinstance(value, Tensor) and value.ndim >= 2 and value.shape[:2] == ids.shape and "pixel" not in key:
            longer[key] = torch.cat([extend_over_reply(key, row[None], len(tokens)) for row in value])
    return longer
