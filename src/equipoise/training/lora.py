"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) by peft: added, scaled, merged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from equipoise.errors import MissingExtraError


def add_adapters(
    model: Any, rank: int, *, layers: Sequence[str] | Literal["all-linear"] = "all-linear", dropout: float = 0.0
) -> Any:
    """The model with an adapter beside each linear layer; only the adapters require gradients.

    Args:
        model: a transformers model, changed in place.
        rank: of the adapters; their product is scaled by 2, as `lora_alpha` is twice the rank.
        layers: names of linear layers; by default all but the output layer.
        dropout: of what goes into an adapter, in training.

    Returns:
        A `PeftModel` around the model.

    Raises:
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[lora]'") from error
    targets = layers if isinstance(layers, str) else list(layers)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules=targets)
    # peft asks transformers for something by a name that will go away.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return get_peft_model(model, config)


def merge_adapters(model: Any, share: float = 1.0) -> Any:
    """The model under the adapters, with a share of their change added to its weights.

    Args:
        model: as `add_adapters` returned it; used up.
        share: 1 is the whole change, 0 none of it.
    """
    if share != 1:
        scale_adapters(model, share)
    return model.merge_and_unload()


def scale_adapters(model: nn.Module, share: float) -> None:
    """Multiply the change that adapters make to the weights by `share`."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # An adapter's change is the product B A: scaling one of the two factors scales the product.
            if "lora_B" in name:
                weight.mul_(share)
