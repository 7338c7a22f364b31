"""DiffPure (Nie et al. 2022, arXiv:2205.07460): add noise up to a level t*, then denoise with a diffusion model.

Equation 4 adds the noise; the way back is the ancestral sampler of DDPM (Ho et al. 2020, arXiv:2006.11239) over a few
levels from t* down. Gradients flow through every step; each is computed again in the backward pass, so that memory is
that of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from equipoise.errors import UsageError
from equipoise.media.quantize import eight_bit
from equipoise.transforms.base import Transform, interpolate
from equipoise.transforms.denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class DiffPure(Transform):
    """Noise and denoise a picture.

    The denoiser works on squares of its own size. `resize` brings the whole picture to that square and back, so that
    detail finer than the square is lost; `tile` purifies overlapping squares at the picture's own resolution, so that a
    denoiser of whole scenes sees parts of one.
    """

    denoiser: Denoiser
    """An unconditional pixel-space diffusion model."""
    level: float = 0.1
    """t* as a share of the noise schedule, up to 1; the paper takes 0.1 to 0.15 against 8/255."""
    steps: int = 5
    """Denoising steps from t* down to 0."""
    fit: Literal["resize", "tile"] = "resize"
    """How pictures of another size are brought to the denoiser's."""
    checkpointing: bool = True
    """Compute each step again in the backward pass: memory of one step instead of all."""

    def __post_init__(self) -> None:
        lowest = 2 / self.denoiser.levels
        if not lowest <= self.level <= 1:
            raise UsageError(f"expected t* from {lowest:g} to 1, got {self.level:g}; try 0.1")
        most = round(self.level * self.denoiser.levels)
        if not 2 <= self.steps <= most:
            raise UsageError(
                f"expected 2 to {most} denoising steps for t* of {self.level:g}, got {self.steps}; try {min(5, most)}"
            )
        if self.fit not in ("resize", "tile"):
            raise UsageError(f"expected fit resize or tile, got {self.fit!r}; try resize")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The purified picture at its old size."""
        if self.fit == "resize":
            square = interpolate(pixels, [self.denoiser.side] * 2, "bicubic")
            pure = self._purified(square[None], random)[0]
            return eight_bit(interpolate(pure, pixels.shape[1:], "bicubic"))
        return eight_bit(self._tiled(pixels, random))

    def describe(self) -> dict[str, Any]:
        """The transform as JSON, with which weights."""
        fields = {name: getattr(self, name) for name in ("level", "steps", "fit")}
        return {"transform": "Purify", **fields, "denoiser": self.denoiser.name, "revision": self.denoiser.revision}

    def _purified(self, squares: Tensor, random: Generator) -> Tensor:
        """`B x 3 x side x side` through noise and back, in `[0, 1]` but for what the denoiser overshoots."""
        schedule, levels = self.denoiser.schedule(self.level, self.steps)
        here = squares.to(self.denoiser.device, torch.promote_types(squares.dtype, torch.float32)) * 2 - 1
        here = schedule.add_noise(here, _noise(here, random), torch.tensor(levels[:1], device=here.device))
        for level, lower in zip(levels, [*levels[1:], None], strict=True):
            noise = _noise(here, random)
            if self.checkpointing and torch.is_grad_enabled() and here.requires_grad:
                here = checkpoint(self._step, schedule, here, level, lower, noise, use_reentrant=False)
            else:
                here = self._step(schedule, here, level, lower, noise)
        return (here.to(squares) + 1) / 2

    def _step(self, schedule: Any, here: Tensor, level: int, lower: int | None, noise: Tensor) -> Tensor:
        """From one level to a lower one, or to no noise: equation 7 of Ho et al. at the picture that is guessed."""
        guess: Tensor = schedule.step(self.denoiser.noise(here, level), level, here).pred_original_sample
        kept = float(schedule.alphas_cumprod[level])
        kept_then = 1.0 if lower is None else float(schedule.alphas_cumprod[lower])
        ratio, left = kept / kept_then, (1 - kept_then) / (1 - kept)
        mean = kept_then**0.5 * (1 - ratio) / (1 - kept) * guess + ratio**0.5 * left * here
        return mean + (left * (1 - ratio)) ** 0.5 * noise

    def _tiled(self, pixels: Tensor, random: Generator) -> Tensor:
        side = self.denoiser.side
        height, width = pixels.shape[1:]
        padded = functional.pad(pixels[None], (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")[0]
        whole, weight = torch.zeros_like(padded), torch.zeros_like(padded[:1])
        window = _window(side).to(padded)
        for top in _starts(padded.shape[1], side):
            for left in _starts(padded.shape[2], side):
                tile = padded[:, top : top + side, left : left + side]
                pure = self._purified(tile[None], random)[0] * window
                around = (left, padded.shape[2] - left - side, top, padded.shape[1] - top - side)
                whole = whole + functional.pad(pure, around)
                weight = weight + functional.pad(window[None], around)
        return (whole / weight)[:, :height, :width]


def _noise(like: Tensor, random: Generator) -> Tensor:
    return torch.randn(like.shape, generator=random).to(like)


def _starts(length: int, side: int) -> Iterator[int]:
    """Where tiles begin: overlapping by a quarter or more, the last at the edge."""
    count = max(1, -(-(length - side) // (side * 3 // 4)) + 1)
    yield from (round(i * (length - side) / max(1, count - 1)) for i in range(count))


def _window(side: int) -> Tensor:
    """How much each place of a tile counts: most in its middle, a little at its edge."""
    ramp = torch.linspace(-1, 1, side).abs().neg().add(1.05)
    return ramp[:, None] * ramp[None]
