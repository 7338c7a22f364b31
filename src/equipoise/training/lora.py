"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) by peft: added, scaled, merged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import nn

from equipoise.errors import MissingExtraError
from equipoise.files import write_whole
from equipoise.models.adapter import ADAPTER_WEIGHTS, TrainedBase, write_base_settings


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
        raise MissingExtraError("pip install 'equipoise[models]'") from error
    targets = layers if isinstance(layers, str) else list(layers)
    # alpha = 2 r, so that the change is 2 B A whatever the rank: a learning rate found at one rank is about right at
    # another. B starts at zero, hence the adapted model begins as the base itself.
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


def save_adapter(model: Any, folder: Path, base: TrainedBase, *, prefix: str = "") -> None:
    """Write adapters in bfloat16 as peft reads them, with the name of their base; see `models.adapter`.

    Args:
        model: as `add_adapters` returned it.
        folder: made where it is not there.
        base: the model whose weights the adapters were trained over, hashed before it was loaded.
        prefix: the name of the model inside the one that the adapters will be read onto, such as `model` for a decoder
            inside a causal language model; empty where it is the same model.

    Raises:
        ModelError: the base has adapters itself.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    outer = "base_model.model."
    inner = f"{outer}{prefix}." if prefix else outer
    state = {
        inner + name.removeprefix(outer): weight.detach().to("cpu", torch.bfloat16).contiguous()
        for name, weight in get_peft_model_state_dict(model).items()
    }
    write_whole(folder / ADAPTER_WEIGHTS[0], save(state, metadata={"format": "pt"}))
    config = model.peft_config["default"]
    config.inference_mode, config.base_model_name_or_path = True, base.name
    config.save_pretrained(folder)
    write_base_settings(folder, base)
