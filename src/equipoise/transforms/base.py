"""`Transform`: a seeded, differentiable change of a picture, such as JPEG or cropping.

Each maps `3 x H x W` pixels in `[0, 1]` to pixels in `[0, 1]`, of another size where it says so. The result is an 8-bit
picture, as a file would hold it (straight-through gradient). Attacks optimise over transforms (expectation over
transformations), countermeasures apply them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.errors import UsageError


class Transform(ABC):
    """A change of a picture; its parameters are dataclass fields."""

    @property
    def is_random(self) -> bool:
        """Whether two draws may differ; True unless a subclass knows better."""
        return True

    @abstractmethod
    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The changed picture.

        Args:
            pixels: `3 x H x W` in `[0, 1]`.
            random: source of all randomness, on the CPU.
        """

    def describe(self) -> dict[str, Any]:
        """The transform as JSON."""
        return {"transform": type(self).__name__} | asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Identity(Transform):
    """The picture unchanged."""

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The same values in a new tensor."""
        return pixels * 1


def uniform(low: float, high: float, random: Generator) -> float:
    """A number drawn evenly from a range."""
    return low + (high - low) * float(torch.rand((), generator=random))


def interpolate(pixels: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """`3 x H x W` pixels at another size, with antialiasing."""
    return functional.interpolate(pixels[None], list(size), mode=mode, antialias=True)[0]


def require_range(name: str, low: float, high: float, limit: float) -> None:
    """Raise `UsageError` unless `0 < low <= high <= limit`."""
    if not 0 < low <= high <= limit:
        raise UsageError(f"expected {name} above 0 and up to {limit:g}, got {low:g}..{high:g}; try 0.8..1")
