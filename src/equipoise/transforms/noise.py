"""Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equipoise.errors import UsageError
from equipoise.media.quantize import eight_bit
from equipoise.transforms.base import Transform, uniform


@dataclass(frozen=True)
class Noise(Transform):
    """Add Gaussian noise of a strength drawn from a range."""

    lowest: float = 0.0
    """Lowest standard deviation, in pixel units."""
    highest: float = 8 / 255
    """Highest standard deviation."""

    @property
    def is_random(self) -> bool:
        """Whether there is any noise."""
        return self.highest > 0

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= self.highest <= 1:
            raise UsageError(f"expected noise in 0..1, got {self.lowest:g}..{self.highest:g}; try 0..{8 / 255:.3f}")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The noisy picture."""
        strength = uniform(self.lowest, self.highest, random)
        noise = torch.randn(pixels.shape, generator=random).to(pixels)
        return eight_bit(pixels + strength * noise)
