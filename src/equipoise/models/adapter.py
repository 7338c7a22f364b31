"""Adapters of peft on a loaded model: beside its weights, or merged into them, which gives a model like any other."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from equipoise.errors import MissingExtraError, ModelError
from equipoise.models.model_location import first_line


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the change of an adapter added to its weights.

    Args:
        model: a transformers model with float weights; used up.
        folder: as `save_pretrained` of peft writes it.

    Raises:
        ModelError: the adapter belongs to another model, or cannot be read.
        MissingExtraError: peft is not installed.
    """
    return load_adapter(model, folder).merge_and_unload()


def load_adapter(model: Any, folder: Path) -> Any:
    """A `PeftModel`: the model with an adapter beside its weights.

    Args:
        model: a transformers model; its modules are changed in place.
        folder: as `save_pretrained` of peft writes it.

    Raises:
        ModelError: the adapter belongs to another model, or cannot be read.
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[lora]'") from error
    try:
        # peft asks transformers for something by a name that will go away, and warns of a base that was renamed.
        with warnings.catch_warnings(action="ignore"):
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model, config)
            # Loaded by name: an adapter of another architecture fits in part or not at all, of which peft only warns.
            loaded = adapted.load_adapter(str(folder), "default", torch_device=str(model.device))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"expected an adapter for this model in {folder}, got an error ({first_line(error)}); "
            "try the model that it was trained on"
        ) from error
    strangers = [*loaded.missing_keys, *loaded.unexpected_keys]
    if strangers:
        raise ModelError(
            f"expected an adapter for this model in {folder}, got one with {len(strangers)} weights that do "
            f"not fit it, such as {strangers[0]}; try the model that it was trained on"
        )
    return adapted
