"""Feature squeezing (Xu et al. 2018, arXiv:1704.01155): fewer bits a value, and the median of a neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn import functional

from equipoise.errors import UsageError
from equipoise.media.quantize import eight_bit
from equipoise.transforms.base import Transform


@dataclass(frozen=True)
class BitDepth(Transform):
    """Round every value to fewer bits; the gradient passes as if nothing happened (straight-through)."""

    bits: int = 4
    """1 to 7."""

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise UsageError(f"expected 1 to 7 bits, got {self.bits}; try 4")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture with fewer colours."""
        most = 2**self.bits - 1
        return eight_bit(pixels + ((pixels * most).round() / most - pixels).detach())


@dataclass(frozen=True)
class Median(Transform):
    """The median of each value's square neighbourhood; the gradient goes to the value that is the median."""

    size: int = 3
    """Side of the neighbourhood, in pixels; odd."""

    @property
    def is_random(self) -> bool:
        """False."""
        return False

    def __post_init__(self) -> None:
        if self.size < 3 or self.size > 15 or self.size % 2 == 0:
            raise UsageError(f"expected an odd side of 3 to 15 pixels, got {self.size}; try 3")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The smoothed picture."""
        reach = self.size // 2
        padded = functional.pad(pixels[None], (reach,) * 4, mode="replicate")
        # `3 x H x W x size x size`. The side is odd, so that the median is one of the values and has their gradient.
        windows = padded.unfold(2, self.size, 1).unfold(3, self.size, 1)[0]
        return eight_bit(windows.flatten(-2).median(-1).values)
