"""Changes that are hard to see: a budget for each value by local texture, a perceptual distance, smooth flat regions.

A change of eight levels disappears in grass and stands out in a sky. Structural similarity says by how much: over a
window of texture with variance s^2, a change of variance n^2 that has nothing to do with the picture leaves a
similarity of (2 s^2 + C) / (2 s^2 + n^2 + C), with C = (0.03 x 255)^2 (Wang et al. 2004). Solved for n, that is the
largest change at which a region keeps a wanted similarity: its *reach*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.attacks.objectives import LossAndGrad, WrappedObjective, sum_losses
from equipoise.errors import UsageError
from equipoise.media.quantize import LEVELS

CONTRAST: Final = (0.03 * LEVELS) ** 2
"""The constant C2 of structural similarity, in squared levels."""
WINDOW: Final = 7
"""Side of the window whose variance is the texture around a value."""
SCALE_WEIGHTS: Final = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of multi-scale structural similarity (Wang, Simoncelli and Bovik 2003)."""
_KERNEL: Final = 11
"""Side of its Gaussian window; the coarsest scale must be at least as large."""
_VIEWED: Final = 256
"""Shorter side to which pictures are averaged before they are compared, the authors' own rule for viewing."""


@dataclass(frozen=True)
class Perceptual:
    """How an attack keeps its change from being seen.

    The attack begins with the smallest reach. As long as no check is passed, it goes on from where it is with the next.
    In the last stage flat regions move by up to half of epsilon, and texture by all of it. The first picture that
    passes is one of the least visible.
    """

    similarities: tuple[float, ...] = (0.97, 0.93, 0.87)
    """Local similarities that set the reach, one stage of the attack each, before the last."""
    weight: float = 3.0
    """Weight of the perceptual distance, 1 - MS-SSIM, beside a loss in nats per token."""
    smoothness: float = 0.02
    """Weight of the mean squared difference, in levels, between the changes of neighbours in flat regions."""

    def __post_init__(self) -> None:
        if not self.similarities or not all(0 < value < 1 for value in self.similarities):
            raise UsageError(f"expected similarities between 0 and 1, got {self.similarities}; try (0.97, 0.93, 0.87)")
        if list(self.similarities) != sorted(self.similarities, reverse=True):
            raise UsageError(f"expected falling similarities, got {self.similarities}; try (0.97, 0.93, 0.87)")
        if self.weight < 0 or self.smoothness < 0:
            raise UsageError(f"expected weights of at least 0, got {self.weight:g}, {self.smoothness:g}; try 3 and 0")

    def reaches(self, clean: Tensor, epsilon: float) -> list[Tensor]:
        """How far each value may be moved in each stage, `1 x H x W` in units of `[0, 1]`, at most epsilon."""
        noise = texture_variance(clean).mul(2).add(CONTRAST)
        # A change of one level is never seen, and a reach below it would leave nothing to move.
        stages = [
            noise.mul((1 - value) / value).sqrt_().div_(LEVELS).clamp(1 / LEVELS, max(epsilon, 1 / LEVELS))
            for value in self.similarities
        ]
        return [*stages, stages[-1].clamp(min=epsilon / 2)]


def texture_variance(clean: Tensor) -> Tensor:
    """Variance of the luminance around each value, in squared levels, `1 x H x W`.

    At an edge the smaller variance of the two sides counts: a change beside an edge is seen on its flat side, whatever
    the window across the edge says.
    """
    luminance = (clean.mul(LEVELS) * clean.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)[None, None]
    pad = WINDOW // 2
    padded = functional.pad(luminance, [pad] * 4, mode="replicate")
    mean = functional.avg_pool2d(padded, WINDOW, 1)
    # Of the differences from the window's own mean: of E[x^2] - E[x]^2 nothing would be left in float32.
    square = functional.avg_pool2d(functional.pad((luminance - mean).square(), [pad] * 4, mode="replicate"), WINDOW, 1)
    # The smallest value within a few pixels is minus the largest of the negatives.
    least = -functional.max_pool2d(functional.pad(-square, [pad] * 4, mode="replicate"), WINDOW, 1)
    return least[0]


def ms_ssim(pixels: Tensor, clean: Tensor) -> Tensor | None:
    """Multi-scale structural similarity of two pictures `3 x H x W` in `[0, 1]`: 1 for equal ones, a scalar.

    Pictures of more than 256 pixels at their shorter side are averaged to about that first. Small pictures are compared
    at as many scales as there is room for; None where there is none, below 11 pixels.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    shortest = min(clean.shape[1:])
    factor = max(1, round(shortest / _VIEWED))
    changed, reference = (functional.avg_pool2d(picture[None], factor) for picture in (pixels, clean))
    side = min(reference.shape[2:])
    # Each scale halves the picture; the second condition is the library's own count, which is stricter for many scales.
    fitting = (n for n in range(1, 6) if side // 2 ** (n - 1) >= _KERNEL and side // max(1, n - 1) ** 2 >= _KERNEL)
    scales = max(fitting, default=0)
    if not scales:
        return None
    total = sum(SCALE_WEIGHTS[:scales])
    weights = tuple(weight / total for weight in SCALE_WEIGHTS[:scales])
    value = multiscale_structural_similarity_index_measure(
        changed, reference, data_range=1.0, betas=weights, normalize="relu"
    )
    assert isinstance(value, Tensor)
    return value


@dataclass(frozen=True)
class PerceptualObjective(WrappedObjective):
    """An objective with a penalty for what is seen of the change."""

    clean: Tensor
    """The clean picture, `3 x H x W`."""
    settings: Perceptual
    """The weights of the penalty."""

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """The loss inside, and the penalty of these pixels."""
        return sum_losses([self.objective(pixels, items, random), self.penalty(pixels)])

    @cached_property
    def _flatness(self) -> Tensor:
        """How flat the clean picture is around each value, `1 x H x W` in `[0, 1]`."""
        return CONTRAST / (2 * texture_variance(self.clean) + CONTRAST)

    def penalty(self, pixels: Tensor) -> LossAndGrad:
        """What the visible part of a change costs; nothing for the clean picture."""
        with torch.enable_grad():
            leaf = pixels.detach().requires_grad_(True)
            change = (leaf - self.clean) * LEVELS
            rough = _mean(self._flatness[:, 1:] * change.diff(dim=1).square()) + _mean(
                self._flatness[:, :, 1:] * change.diff(dim=2).square()
            )
            loss = self.settings.smoothness * rough
            similarity = ms_ssim(leaf, self.clean) if self.settings.weight else None
            if similarity is not None:
                loss = loss + self.settings.weight * (1 - similarity)
            (gradient,) = torch.autograd.grad(loss, leaf)
        # At equal pictures the similarity has no derivative in some windows (0 / 0).
        return LossAndGrad(float(loss.detach()), gradient.nan_to_num_(0.0, 0.0, 0.0))

    def score(self, pixels: Tensor) -> float:
        """The score inside, and the penalty."""
        return self.objective.score(pixels) + self.penalty(pixels).loss

    def describe(self) -> dict[str, Any]:
        """The objective inside, with the weights."""
        weights = {"weight": self.settings.weight, "smoothness": self.settings.smoothness}
        return self.objective.describe() | {"perceptual": weights}


def _mean(values: Tensor) -> Tensor:
    """The mean; 0 of no values, as a picture one pixel high has no neighbours above each other."""
    return values.sum() / max(values.numel(), 1)
