"""Weights in a quarter of their bytes: matrices as 8-bit integers with a scale for each row, stored as `NAME.scale`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def quantize_rows(state: Mapping[str, Tensor], chosen: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The chosen matrices in 8 bits, everything else in float32.

    Args:
        state: weights by name.
        chosen: which matrices by name; vectors never are.
    """
    import torch

    small = {}
    for name, value in state.items():
        # Symmetric rounding: q = round(w / s) with s = max|w| / 127 for each row, so that |w - q s| <= s / 2. A scale
        # for each row, not for the matrix, because one large weight would otherwise cost all rows their precision.
        # -128 is left out, so that the grid is symmetric; the limit below 1e-12 keeps a row of zeros one.
        if value.ndim == 2 and chosen(name):
            scale = value.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            small[name] = (value / scale).round().clamp(-127, 127).to(torch.int8)
            small[f"{name}.scale"] = scale.to(torch.float32)
        else:
            small[name] = value.to(torch.float32)
    return {name: value.contiguous() for name, value in small.items()}


def dequantize_rows(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float32: what was rounded times its scale."""
    return {
        name: value.float() * state[f"{name}.scale"] if f"{name}.scale" in state else value.float()
        for name, value in state.items()
        if not name.endswith(".scale")
    }
