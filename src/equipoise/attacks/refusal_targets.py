"""Refusal sentences that an attack may aim at, written for this project, and the choice among them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.models.base import OpenModel
    from equipoise.types import Prompt

TARGET_REFUSALS: Final = (
    "I'm sorry, but I can't help with that.",
    "Sorry, I am not able to answer questions about this picture.",
    "I can't assist with that request.",
    "I'm sorry, I cannot describe this image.",
    "Unfortunately, I am unable to help with this.",
    "I won't be able to answer that.",
    "I must decline to answer this question.",
    "I'm not able to discuss what is in this picture.",
    "I apologize, but I cannot provide an answer to that.",
    "Sorry, but that is something I can't do.",
    "I'd rather not comment on this image.",
    "I am unable to respond to this request.",
    "I can't share anything about this photo.",
    "My apologies, but I can't answer this one.",
    "I have to refuse this request.",
    "I do not feel comfortable answering this.",
    "I'm afraid I cannot help you with this picture.",
    "Regrettably, I can't give you an answer.",
    "I will not answer questions about this image.",
    "Sorry, I cannot continue with this request.",
    "I'm unable to process this picture for you.",
    "I don't think I should answer that, sorry.",
    "I regret that I can't be of help here.",
    "This is not something I am able to assist with.",
)
"""Our own refusal sentences, in the first person, all distinct in their first words or their body.

Targets of an attack: what the model shall be made to say. They are many, so that one is near to how a model refuses
anyway, and recipes name them by their text. What counts as a refusal is decided by `judges/refusal_patterns.py`, which
has rules and no sentences. Detection has a fixed few of its own, and the testbed those its weights were trained on.
"""


def draw_target(seed: int) -> str:
    """One of `TARGET_REFUSALS`, the same for the same seed."""
    return random.Random(f"refusal {seed}").choice(TARGET_REFUSALS)


def most_likely_refusal(pixels: Tensor, models: Sequence[OpenModel], prompts: Sequence[Prompt]) -> str:
    """The sentence of `TARGET_REFUSALS` with the lowest cross-entropy, as `cross_entropies` takes it.

    The closer the target sentence is to how a model refuses anyway, the fewer steps an attack needs.
    """
    return TARGET_REFUSALS[int(cross_entropies(pixels, models, prompts).argmin())]


def cross_entropies(pixels: Tensor, models: Sequence[OpenModel], prompts: Sequence[Prompt]) -> Tensor:
    """The cross-entropy per token of each of `TARGET_REFUSALS`, summed over models and prompts.

    Args:
        pixels: the clean picture, `3 x H x W` in `[0, 1]`.
        models: every target.
        prompts: some of the shadow questions; all sentences are one batch for each.
    """
    import torch

    total = torch.zeros(len(TARGET_REFUSALS))
    with torch.no_grad():
        for model in models:
            drawn = model.sample_randomness(torch.Generator().manual_seed(0))
            for prompt in prompts:
                log_probs = drawn.log_prob(pixels.to(model.device), [prompt] * len(TARGET_REFUSALS), TARGET_REFUSALS)
                total -= log_probs.mean.float().cpu()
    return total
