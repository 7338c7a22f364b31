"""What `find_direction` does with one batch of prompts: replies with their labels, sums of activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.edits import capture
from equipoise.steering.prompt_forward import prompt_inputs, run_prompts
from equipoise.steering.steerable import Steerable
from equipoise.types import Judge, Prompt

SumPair = tuple[ActivationSums, ActivationSums]
"""Of the even and of the odd prompts of a class."""


def reply_rows(steerable: Steerable, judge: Judge, prompts: Sequence[Prompt], tokens: int) -> list[dict[str, Any]]:
    """Each prompt's reply: its tokens, its text, and whether the judge says it refuses (None: unscored).

    Raises:
        ModelError: a model without its processor.
    """
    model = steerable.open_model
    if model is None:
        raise ModelError("expected a model that generates, got bare weights; try Steerable.of(load(name))")
    pairs = model.generate_tokens(prompts, max_new_tokens=tokens)
    verdicts = judge([exchange for exchange, _ in pairs])
    return [
        {"tokens": ids, "text": exchange.reply, "refused": verdict.refused}
        for (exchange, ids), verdict in zip(pairs, verdicts, strict=True)
    ]


def activation_sums(steerable: Steerable, prompts: Sequence[Prompt], indices: Sequence[int], positions: int) -> SumPair:
    """Sums of the stream at the last positions of every layer, over the even and over the odd prompts of a batch.

    Args:
        steerable: the model.
        prompts: of the batch.
        indices: their numbers in the class, which make them even or odd.
        positions: how many tokens from the end.
    """
    depth, width = len(steerable.tower.layers), steerable.tower.width
    halves = ActivationSums.empty(depth, positions, width), ActivationSums.empty(depth, positions, width)
    even = torch.tensor([index % 2 == 0 for index in indices])

    def take(layer: int, values: Tensor) -> None:
        for half, chosen in zip(halves, (even, ~even), strict=True):
            if bool(chosen.any()):
                half.append(layer, values[chosen.to(values.device)])

    with capture(steerable, last=positions, layers=range(depth), sink=take):
        run_prompts(steerable, prompt_inputs(steerable, prompts))
    return halves
