"""Whether padding changes what a model reads, found by one comparison on two short prompts.

An attention mask hides padding from attention. A layer that keeps a state reads it all the same, unless its code looks
at the mask as well: RWKV's does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import EquipoiseError
from equipoise.models.chat import ConversationFormat
from equipoise.models.decoding import decode_logits, greedy_config
from equipoise.models.generation import is_padded, prompt_inputs
from equipoise.models.unreadable import PROGRAM_ERRORS
from equipoise.types import Prompt

PROBES = (Prompt.ask("Hi"), Prompt.ask("How many days has a year, and how many of them are in its longest month?"))
TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-2}
"""Largest allowed relative difference of the first token's scores; 0.1 in other precisions."""


def padding_disturbs(model: Any, processor: Any, chat: ConversationFormat, stops: Sequence[int]) -> bool:
    """Whether the shorter of two prompts gets other scores in a batch than alone.

    Args:
        model: a transformers model.
        processor: its processor.
        chat: writes the conversations.
        stops: tokens that end a reply.

    Returns:
        False as well for a model that cannot be asked this way, such as one that needs a picture in every prompt.
    """
    if hasattr(processor, "image_processor") and chat.form == "plain":
        return False
    config = greedy_config(model, stops, 1)
    try:
        batch = prompt_inputs(processor, chat, PROBES)
        if not is_padded(batch):
            return False
        together = decode_logits(model, batch, config)[:1]
        alone = decode_logits(model, prompt_inputs(processor, chat, PROBES[:1]), config)
    except torch.OutOfMemoryError:
        raise
    except (EquipoiseError, *PROGRAM_ERRORS):
        # A batch that fails is asked one by one when it comes.
        return False
    return _distance(together, alone) > TOLERANCE.get(model.dtype, 0.1)


def _distance(values: Tensor, expected: Tensor) -> float:
    """Relative distance of finite scores; forbidden tokens have minus infinity."""
    both = values.isfinite() & expected.isfinite()
    values, expected = values[both].float(), expected[both].float()
    # A constant that is added to all scores changes no choice.
    values, expected = values - values.mean(), expected - expected.mean()
    return float((values - expected).norm() / expected.norm().clamp_min(1e-6))
