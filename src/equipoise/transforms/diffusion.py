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
    """Purify a picture by noise and denoising.

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
            purified = self.purify_squares(square[None], random)[0]
            return eight_bit(interpolate(purified, pixels.shape[1:], "bicubic"))
        return eight_bit(self.purify_tiles(pixels, random))

    def describe(self) -> dict[str, Any]:
        """The transform as JSON, with the name and revision of the denoiser."""
        settings: dict[str, Any] = {name: getattr(self, name) for name in ("level", "steps", "fit")}
        weights = {"denoiser": self.denoiser.name, "revision": self.denoiser.revision}
        return {"transform": type(self).__name__} | settings | weights

    def purify_squares(self, squares: Tensor, random: Generator) -> Tensor:
        """`B x 3 x side x side` through noise and back, in `[0, 1]` but for what the denoiser overshoots."""
        schedule, levels = self.denoiser.schedule(self.level, self.steps)
        # Diffusion models work on values in [-1, 1].
        x = squares.to(self.denoiser.device, torch.promote_types(squares.dtype, torch.float32)) * 2 - 1
        x = schedule.add_noise(x, _noise(x, random), torch.tensor(levels[:1], device=x.device))
        for level, lower in zip(levels, [*levels[1:], None], strict=True):
            # Drawn here and passed on: a checkpointed step must see the same noise when it is computed again.
            noise = _noise(x, random)
            if self.checkpointing and torch.is_grad_enabled() and x.requires_grad:
                x = checkpoint(self._step, schedule, x, level, lower, noise, use_reentrant=False)
            else:
                x = self._step(schedule, x, level, lower, noise)
        return (x.to(squares) + 1) / 2

    def _step(self, schedule: Any, x: Tensor, level: int, lower: int | None, noise: Tensor) -> Tensor:
        """From `x` at one noise level to a lower one, or to no noise where `lower` is None.

        Equation 7 of Ho et al., the posterior of the lower level given `x` and the clean picture, at the clean picture
        that the network predicts. Levels may be skipped: `alpha` is then the product over the skipped ones.
        """
        clean: Tensor = schedule.step(self.denoiser.noise(x, level), level, x).pred_original_sample
        alpha_bar = float(schedule.alphas_cumprod[level])
        alpha_bar_lower = 1.0 if lower is None else float(schedule.alphas_cumprod[lower])
        alpha = alpha_bar / alpha_bar_lower
        noise_ratio = (1 - alpha_bar_lower) / (1 - alpha_bar)
        mean = alpha_bar_lower**0.5 * (1 - alpha) / (1 - alpha_bar) * clean + alpha**0.5 * noise_ratio * x
        # The variance of the posterior; 0 in the last step, where no noise is left to add.
        return mean + (noise_ratio * (1 - alpha)) ** 0.5 * noise

    def purify_tiles(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture as a weighted mean of overlapping tiles, each purified by itself."""
        side = self.denoiser.side
        height, width = pixels.shape[1:]
        padded = functional.pad(pixels[None], (0, max(0, side - width), 0, max(0, side - height)), mode="replicate")[0]
        total, weight = torch.zeros_like(padded), torch.zeros_like(padded[:1])
        window = _window(side).to(padded)
        for top in tile_offsets(padded.shape[1], side):
            for left in tile_offsets(padded.shape[2], side):
                tile = padded[:, top : top + side, left : left + side]
                weighted = self.purify_squares(tile[None], random)[0] * window
                # Padded and added, not written in place, so that autograd can follow.
                around = (left, padded.shape[2] - left - side, top, padded.shape[1] - top - side)
                total = total + functional.pad(weighted, around)
                weight = weight + functional.pad(window[None], around)
        return (total / weight)[:, :height, :width]


def _noise(like: Tensor, random: Generator) -> Tensor:
    return torch.randn(like.shape, generator=random).to(like)


def tile_offsets(length: int, side: int) -> Iterator[int]:
    """Offsets of tiles: overlapping by a quarter or more, the last at the edge."""
    # `-(-a // b)` rounds up: neighbours are then at most three quarters of a side apart.
    count = max(1, -(-(length - side) // (side * 3 // 4)) + 1)
    yield from (round(i * (length - side) / max(1, count - 1)) for i in range(count))


def _window(side: int) -> Tensor:
    """`side x side` weights of a tile's pixels: large in the middle, small at the edge, never 0."""
    ramp = torch.linspace(-1, 1, side).abs().neg().add(1.05)
    return ramp[:, None] * ramp[None]
