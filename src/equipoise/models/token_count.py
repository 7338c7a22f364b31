"""How many tokens of a model a text has, and how many its context holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from equipoise.models.attention_limits import context_limit
from equipoise.types import ChatModel


def token_counter(model: ChatModel) -> Callable[[str], int] | None:
    """How many tokens of the model a text has; None where its tokenizer is not at hand.

    Threads may count while another one generates.
    """
    original = getattr(getattr(_core(model), "processor", None), "tokenizer", None)
    if original is None:
        return None
    # Every call of a tokenizer sets its padding for good: without a copy, counting turns off that of a batch which
    # another thread is about to tokenize.
    tokenizer = copy.deepcopy(original)
    tokenizer("", add_special_tokens=False)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def context_length(model: ChatModel) -> int | None:
    """Positions of the model's context, prompt and reply together; None where it does not say."""
    core = getattr(_core(model), "model", None)
    return None if getattr(core, "config", None) is None else context_limit(core)


def _core(model: ChatModel) -> Any:
    """The model under its countermeasures."""
    return getattr(model, "core", model)
