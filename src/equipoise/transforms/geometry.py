"""Geometric transforms: resizing, cropping, shrinking and padding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.errors import UsageError
from equipoise.media.quantize import eight_bit
from equipoise.transforms.base import Transform, interpolate, require_range, uniform


@dataclass(frozen=True)
class Resize(Transform):
    """Resize both sides by one factor drawn from a range; the result has another size."""

    lowest: float = 0.6
    """Lowest factor."""
    highest: float = 1.2
    """Highest factor."""

    @property
    def is_random(self) -> bool:
        """False only where the factor is always 1: the kernel is drawn, too."""
        return not self.lowest == self.highest == 1

    def __post_init__(self) -> None:
        require_range("resize factors", self.lowest, self.highest, 4.0)

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture at its new size; bilinear or bicubic with antialiasing, by chance, as resizers differ."""
        factor = uniform(self.lowest, self.highest, random)
        mode = "bicubic" if torch.rand((), generator=random) < 0.5 else "bilinear"
        size = [max(1, round(side * factor)) for side in pixels.shape[1:]]
        return eight_bit(interpolate(pixels, size, mode))


@dataclass(frozen=True)
class Crop(Transform):
    """Cut out a random part and, with `restore`, resize it to the old size."""

    lowest: float = 0.8
    """Lowest share of each side that is kept."""
    highest: float = 1.0
    """Highest share."""
    restore: bool = False
    """Resize the part to the size of the whole; otherwise the result is smaller."""

    @property
    def is_random(self) -> bool:
        """Whether anything may be cut off."""
        return self.lowest < 1

    def __post_init__(self) -> None:
        require_range("crop shares", self.lowest, self.highest, 1.0)

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The part."""
        share = uniform(self.lowest, self.highest, random)
        height, width = (max(1, round(side * share)) for side in pixels.shape[1:])
        top = int(torch.randint(pixels.shape[1] - height + 1, (), generator=random))
        left = int(torch.randint(pixels.shape[2] - width + 1, (), generator=random))
        part = pixels[:, top : top + height, left : left + width]
        if not self.restore:
            # A tensor of its own: a view would share its memory with the caller's picture.
            return part * 1
        return eight_bit(interpolate(part, list(pixels.shape[1:]), "bilinear"))


@dataclass(frozen=True)
class Shrink(Transform):
    """Resize to a share of each side and back again, which loses what is finer."""

    share: float = 0.5
    """Share of each side, above 0 and below 1."""

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"expected a share of each side above 0 and below 1, got {self.share:g}; try 0.5")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture, softer, at its old size."""
        size = [max(1, round(side * self.share)) for side in pixels.shape[1:]]
        return eight_bit(interpolate(interpolate(pixels, size, "bicubic"), pixels.shape[1:], "bicubic"))


@dataclass(frozen=True)
class ResizeAndPad(Transform):
    """Shrink by a factor drawn from a range and put it at a random place on grey (Xie et al. 2018, arXiv:1711.01991).

    The result has the old size; nothing of the picture is cut off.
    """

    lowest: float = 0.8
    """Smallest share of each side."""
    highest: float = 1.0
    """Largest share."""

    @property
    def is_random(self) -> bool:
        """Whether there may be anything to pad."""
        return self.lowest < 1

    def __post_init__(self) -> None:
        require_range("shares of each side", self.lowest, self.highest, 1.0)

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture, smaller, on grey."""
        share = uniform(self.lowest, self.highest, random)
        height, width = pixels.shape[1:]
        size = [max(1, round(side * share)) for side in (height, width)]
        top = int(torch.randint(height - size[0] + 1, (), generator=random))
        left = int(torch.randint(width - size[1] + 1, (), generator=random))
        small = interpolate(pixels, size, "bilinear")
        around = (left, width - size[1] - left, top, height - size[0] - top)
        return eight_bit(functional.pad(small, around, value=128 / 255))
