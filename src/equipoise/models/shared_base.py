"""One base model in memory, and several adapters over it: a guarded model, its detector and its detoxifier share it.

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

from equipoise.errors import UsageError
from equipoise.models.adapter import base_name, check_base, load_adapter
from equipoise.models.model_location import ADAPTER, ModelLocation, locate
from equipoise.models.model_parts import PretrainedParts, load_parts
from equipoise.models.parts_over_base import assemble

_bases: dict[tuple[ModelLocation, torch.device, torch.dtype], PretrainedParts] = {}
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
    parts = _base_parts(base_name(folder), torch.device(device), dtype)
    return _adapted(sharing_copy(parts.model), folder, dtype), copy.deepcopy(parts.processor)


def shared_parts(name: str, *, device: torch.device, dtype: torch.dtype) -> PretrainedParts:
    """The parts of a model as `load_parts` gives them, around a base that this process holds once.

    Replies differ from those of `load_parts` by rounding alone: the adapter's change is added to activations, not to
    weights.

    Args:
        name: see `model_location`; at most one adapter.
        device: where it computes.
        dtype: number format; models with the same one share.

    Raises:
        UsageError: several adapters.
        ModelError: as of `load_parts`.
        MissingExtraError: peft is not installed.
    """
    source = locate(name)
    adapters = [*([Path(source.where) / ADAPTER] if source.base is not None else []), *source.adapters]
    if len(adapters) > 1:
        raise UsageError(
            f"expected a model with one adapter to share its base, got {name} with {len(adapters)}; "
            "try it without sharing, which merges them"
        )
    if source.base is None:
        # What is written before the adapter; `reference/lm` is one over the reference base without saying so.
        base = name if not adapters else name.rpartition("+")[0] or "reference/base"
        parts = _base_parts(base, device, dtype)
        model, processor = sharing_copy(parts.model), copy.deepcopy(parts.processor)
        reads_pictures = parts.reads_pictures
    else:
        text = sharing_copy(_base_parts("reference/base", device, dtype).model)
        model, processor = assemble(Path(source.where), source.base, dtype=dtype, merged=False, text=text)
        model, reads_pictures = model.to(device), True
    for folder in adapters:
        check_base(folder, source)
        model = _adapted(model, folder, dtype)
    revision = source.revision(getattr(model.config, "_commit_hash", None))
    return PretrainedParts(model.eval(), processor, revision, reads_pictures)


def _base_parts(name: str, device: torch.device, dtype: torch.dtype) -> PretrainedParts:
    """The base of a name, which is kept in memory from its first use on."""
    key = (locate(name), device, dtype)
    with _lock:
        if key not in _bases:
            _bases[key] = load_parts(name, device=device, dtype=dtype)
        return _bases[key]


def _adapted(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """The model with an adapter inside, not merged: merging adds B A to the base's own tensors, which are shared."""
    adapted = load_adapter(model, folder)
    # Weights alone: the frequencies of rotary embeddings are buffers, which stay in float32 everywhere else. In
    # bfloat16 an angle would be wrong by more than a radian from the thousandth token on.
    for weight in adapted.parameters():
        weight.data = weight.data.to(dtype)
    return adapted.get_base_model().eval().requires_grad_(False)


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
