"""What happens to a picture on its way: JPEG, resizing, cropping, noise; seeded and differentiable.

Each transform maps `3 x H x W` pixels in `[0, 1]` to pixels in `[0, 1]`, of another size where it says so. The
result is an 8-bit picture, as a file would hold it (straight-through gradient).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.attacks.jpeg import surrogate
from equipoise.data.pictures import to_image, to_pixels
from equipoise.errors import UsageError


class Transform(ABC):
    """One thing that may happen to a picture; its knobs are dataclass fields."""

    @abstractmethod
    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture afterwards; chance comes from `random`, a CPU generator."""

    def describe(self) -> dict[str, Any]:
        """The transform as JSON."""
        return {"transform": type(self).__name__} | asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Plain(Transform):
    """Nothing happens."""

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The same picture."""
        return pixels * 1


@dataclass(frozen=True)
class Jpeg(Transform):
    """Save as JPEG at a quality drawn from a range, and read again.

    Forward: Pillow's encoder and decoder, exactly. Backward: a differentiable JPEG (colour transform, 4:2:0
    chroma, 8 x 8 DCT, the file's own quantisation tables) whose rounding has the derivative of
    `round(x) + (x - round(x))^3` (Shin and Song 2017) mixed with the straight-through one; see `jpeg.py`.
    """

    lowest: int = 60
    """Lowest quality, 1 to 100."""
    highest: int = 90
    """Highest quality."""

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.highest <= 100:
            raise UsageError(f"expected JPEG qualities in 1..100, got {self.lowest}..{self.highest}; try 60..90")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture as the file holds it."""
        quality = int(torch.randint(self.lowest, self.highest + 1, (), generator=random))
        buffer = BytesIO()
        to_image(pixels).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as read:
            tables = read.quantization  # type: ignore[attr-defined]
            exact = to_pixels(read).to(pixels)
        soft = surrogate(pixels, tables[0], tables[1])
        return soft + (exact - soft).detach()


@dataclass(frozen=True)
class Resize(Transform):
    """Resize both sides by one factor drawn from a range; the result has another size."""

    lowest: float = 0.6
    """Lowest factor."""
    highest: float = 1.2
    """Highest factor."""

    def __post_init__(self) -> None:
        _require_range("resize factors", self.lowest, self.highest, 4.0)

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture at its new size; bilinear or bicubic with antialiasing, by chance, as resizers differ."""
        factor = _uniform(self.lowest, self.highest, random)
        mode = "bicubic" if torch.rand((), generator=random) < 0.5 else "bilinear"
        size = [max(1, round(side * factor)) for side in pixels.shape[1:]]
        return _eight_bit(_interpolate(pixels, size, mode))


@dataclass(frozen=True)
class Crop(Transform):
    """Cut out a random part and, if asked, bring it back to the old size."""

    lowest: float = 0.8
    """Lowest share of each side that is kept."""
    highest: float = 1.0
    """Highest share."""
    restore: bool = False
    """Resize the part to the size of the whole; otherwise the result is smaller."""

    def __post_init__(self) -> None:
        _require_range("crop shares", self.lowest, self.highest, 1.0)

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The part."""
        share = _uniform(self.lowest, self.highest, random)
        height, width = (max(1, round(side * share)) for side in pixels.shape[1:])
        top = int(torch.randint(pixels.shape[1] - height + 1, (), generator=random))
        left = int(torch.randint(pixels.shape[2] - width + 1, (), generator=random))
        part = pixels[:, top : top + height, left : left + width]
        if not self.restore:
            return part * 1
        return _eight_bit(_interpolate(part, list(pixels.shape[1:]), "bilinear"))


@dataclass(frozen=True)
class Noise(Transform):
    """Add Gaussian noise of a strength drawn from a range."""

    lowest: float = 0.0
    """Lowest standard deviation, in pixel units."""
    highest: float = 8 / 255
    """Highest standard deviation."""

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= self.highest <= 1:
            raise UsageError(f"expected noise in 0..1, got {self.lowest:g}..{self.highest:g}; try 0..{8 / 255:.3f}")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The noisy picture."""
        strength = _uniform(self.lowest, self.highest, random)
        noise = torch.randn(pixels.shape, generator=random).to(pixels)
        return _eight_bit(pixels + strength * noise)


@dataclass(frozen=True)
class Expectation:
    """Which transforms a step looks through."""

    transforms: tuple[Transform, ...] = field(default_factory=lambda: (Jpeg(), Resize(), Crop(), Noise()))
    """What may happen."""
    samples: int = 2
    """How many transforms a step draws, without repetition as far as they reach; each costs one evaluation."""
    plain: bool = True
    """Whether each step also looks at the picture as it is, which costs one more."""

    def __post_init__(self) -> None:
        if not self.transforms or self.samples < 1:
            raise UsageError(
                f"expected transforms and at least one sample, got {len(self.transforms)} and {self.samples}; "
                "try Expectation()"
            )

    def draw(self, random: Generator) -> list[Callable[[Tensor, Generator], Tensor]]:
        """The transforms of one step."""
        order: list[int] = []
        while len(order) < self.samples:
            order += torch.randperm(len(self.transforms), generator=random).tolist()
        drawn: list[Callable[[Tensor, Generator], Tensor]] = [self.transforms[i] for i in order[: self.samples]]
        return [Plain(), *drawn] if self.plain else drawn

    def describe(self) -> dict[str, Any]:
        """The expectation as JSON."""
        transforms = [transform.describe() for transform in self.transforms]
        return {"transforms": transforms, "samples": self.samples, "plain": self.plain}


def _uniform(low: float, high: float, random: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))


def _interpolate(pixels: Tensor, size: Sequence[int], mode: str) -> Tensor:
    return functional.interpolate(pixels[None], list(size), mode=mode, antialias=True)[0]


def _eight_bit(pixels: Tensor) -> Tensor:
    """The nearest 8-bit picture; the gradient passes where nothing was clipped."""
    pixels = pixels.clamp(0, 1)
    return pixels + ((pixels * 255).round() / 255 - pixels).detach()


def _require_range(what: str, low: float, high: float, most: float) -> None:
    if not 0 < low <= high <= most:
        raise UsageError(f"expected {what} above 0 and up to {most:g}, got {low:g}..{high:g}; try 0.8..1")
