"""One base model in memory, and several adapters over it: the guard's detector and detoxifier share its weights.

peft can hold several adapters in one model and switch between them, but the switch is a state of the whole model: two
threads would take turns, and a detector would wait while a detoxifier writes. Here every adapter gets modules of its
own around the *same* weight tensors, so that threads are independent and the weights are in memory once.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.files import folder_hash, write_json
from equipoise.models.adapter import load_adapter
from equipoise.models.model_location import ADAPTER_SETTINGS, locate
from equipoise.models.model_parts import load_parts

BASE_SETTINGS: Final = "base.json"
"""The file beside an adapter that names its base."""
_bases: dict[tuple[str, torch.device, torch.dtype], Any] = {}
_lock = threading.Lock()


def write_base_settings(folder: Path, base: str) -> None:
    """Name the base of an adapter.

    Args:
        folder: of the adapter.
        base: its name, see `model_location`, without an adapter.
    """
    write_json(folder / BASE_SETTINGS, {"base": base, "sha256": _revision(base)})


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and the name of its base."""
    return all((folder / name).is_file() for name in (ADAPTER_SETTINGS, BASE_SETTINGS))


def adapted_base(folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """The base with an adapter, not merged, and its tokenizer; the base's weights are shared with other callers.

    Args:
        folder: of the adapter, with `base.json`.
        device: where it computes.
        dtype: number format of the base; the adapter's is the same.

    Returns:
        The transformers model in evaluation mode, with the adapter inside, and the tokenizer.

    Raises:
        ModelError: the base is not there or another one, or the adapter does not fit it.
        MissingExtraError: peft is not installed.
    """
    name = base_name(folder)
    key = (name, torch.device(device), dtype)
    with _lock:
        if key not in _bases:
            _bases[key] = load_parts(name, device=key[1], dtype=dtype)
        parts = _bases[key]
    model = load_adapter(sharing_copy(parts.model), folder).to(dtype)
    return model.get_base_model().eval().requires_grad_(False), copy.deepcopy(parts.processor)


def base_name(folder: Path) -> str:
    """The name of an adapter's base.

    Raises:
        ModelError: no readable `base.json`, or the base's weights are not those that the adapter was trained on.
    """
    try:
        settings = json.loads((folder / BASE_SETTINGS).read_text(encoding="utf-8"))
        name, expected = str(settings["base"]), str(settings["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"expected the name of a base in {folder / BASE_SETTINGS}, got an error ({error}); try another copy"
        ) from error
    if _revision(name) != expected:
        raise ModelError(
            f"expected the weights of {name} that {folder} was trained on, got others; "
            "try installing the base again, or training again"
        )
    return name


def sharing_copy(model: Any) -> Any:
    """A copy of a model's modules around the same parameters and buffers.

    Adding adapters to the copy leaves the original as it was; neither may change the weights in place.
    """
    # deepcopy keeps what its memo already has a copy of: every tensor is declared to be its own copy.
    memo = {id(tensor): tensor for tensor in _tensors(model)}
    return copy.deepcopy(model, memo)


def has_fast_bfloat16() -> bool:
    """Whether this processor has matrix instructions for bfloat16; without them it is slower than float32."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16"))


def _tensors(model: Any) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _revision(name: str) -> str:
    location = locate(name)
    if location.adapters:
        raise ModelError(f"expected a base without an adapter, got {name}; try a folder with merged weights")
    return folder_hash(Path(location.where)) if location.is_local else location.revision(None)
