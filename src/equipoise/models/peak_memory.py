"""How much memory models took at most: of their GPUs, or of this process where they compute on a CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


def process_peak() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return size if sys.platform == "darwin" else size * 1024


def reset_peak_memory(models: Iterable[object]) -> bool:
    """Start the measurement of `peak_memory` on the GPUs of the models; that of a process cannot be started anew.

    Returns:
        Whether any of them computes on a GPU.
    """
    devices = _gpus(models)
    if devices:
        import torch

        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
    return bool(devices)


def peak_memory(models: Iterable[object]) -> int | None:
    """Largest memory in use, in bytes: of the GPUs since `reset_peak_memory`, or of the process on a CPU."""
    devices = _gpus(models)
    if not devices:
        return process_peak()
    import torch

    return sum(torch.cuda.max_memory_allocated(device) for device in devices)


def _gpus(models: Iterable[object]) -> set[Any]:
    """The GPUs of the models; a served model has no device here."""
    devices = (getattr(model, "device", None) for model in models)
    return {device for device in devices if getattr(device, "type", "") == "cuda"}
