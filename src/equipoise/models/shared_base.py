"""One base model in memory, and several adapters over it: the guard's detector and detoxifier share its weights.

peft can hold several adapters in one model and switch between them, but the switch is a state of the whole model: two
threads would take turns, and a detector would wait while a detoxifier writes. Here every adapter gets modules of its
own around the *same* weight tensors, so that threads are independent and the weights are in memory once.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.models.adapter import base_name, load_adapter
from equipoise.models.model_parts import load_parts

_bases: dict[tuple[str, torch.device, torch.dtype], Any] = {}
_lock = threading.Lock()


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
    # Not merged: merging adds B A to the base's own tensors, which other adapters share.
    model = load_adapter(sharing_copy(parts.model), folder).to(dtype)
    return model.get_base_model().eval().requires_grad_(False), copy.deepcopy(parts.processor)


def sharing_copy(model: Any) -> Any:
    """A copy of a model's modules around the same parameters and buffers.

    Adding adapters to the copy leaves the original as it was; neither may change the weights in place.
    """
    # deepcopy keeps what its memo already has a copy of: every tensor is declared to be its own copy.
    memo = {id(tensor): tensor for tensor in _tensors(model)}
    return copy.deepcopy(model, memo)


def has_fast_bfloat16() -> bool:
    """Whether this processor has matrix instructions (AMX) for bfloat16, which are faster than those for integers."""
    return bool(_capabilities().get("amx_bf16"))


def shared_format() -> torch.dtype:
    """The number format in which a base is shared: callers with the same one share its weights.

    bfloat16 where the processor multiplies it (AMX or AVX-512), which is faster there and half of the memory; elsewhere
    it is emulated and slower than float32.
    """
    fast = has_fast_bfloat16() or _capabilities().get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def _capabilities() -> Mapping[str, Any]:
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


def _tensors(model: Any) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
