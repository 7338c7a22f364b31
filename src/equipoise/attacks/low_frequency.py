"""Changes of low frequency: an attack that moves the values of a coarse grid, spread smoothly over the picture.

A processor averages a photo down to what its model sees. What varies faster than that grid costs budget at every pixel
and mostly cancels in the average. Here the change is `spread(z)` of a coarse `z`, and a solver moves `z`. Its gradient
in `z` is the adjoint of `spread` on the gradient in the pixels (the chain rule), so that it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.attacks.budgets import Budget, FeasibleSet
from equipoise.errors import UsageError
from equipoise.media.quantize import LEVELS

if TYPE_CHECKING:
    from equipoise.attacks.base import Attack, UpdateSteps

ORIGIN: Final = 128 / LEVELS
"""Every value of a grid without change: grids are 8-bit pictures too, in the middle of the range."""


@dataclass(frozen=True)
class CoarseGrid:
    """A grid of `rows x columns` values over a picture of `height x width` pixels."""

    size: tuple[int, int]
    """Rows and columns of the grid; a grid is never finer than its picture."""
    picture_size: tuple[int, int]
    """Height and width of the picture."""
    _weights: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise UsageError(f"expected a grid of at least 1 x 1 values, got {self.size}; try (96, 96)")
        small = tuple(min(pair) for pair in zip(self.size, self.picture_size, strict=True))
        object.__setattr__(self, "size", small)
        weights = tuple(_interpolation(*pair) for pair in zip(self.size, self.picture_size, strict=True))
        object.__setattr__(self, "_weights", weights)

    def spread(self, coarse: Tensor) -> Tensor:
        """A change of the picture, `3 x H x W`, from one of the grid, `3 x h x w`, by linear interpolation.

        The weights of every pixel are not negative and add up to 1: no value of the picture moves further than the
        values of the grid around it.
        """
        down, across = (weights.to(coarse) for weights in self._weights)
        return down @ coarse @ across.T

    def gather(self, gradient: Tensor) -> Tensor:
        """The gradient in the grid, `3 x h x w`, from that in the pixels: the adjoint of `spread`."""
        down, across = (weights.to(gradient) for weights in self._weights)
        return down.T @ gradient @ across

    def average(self, change: Tensor) -> Tensor:
        """The grid that a change of the picture comes from, nearly: its mean around each value."""
        return self.gather(change) / self.gather(torch.ones_like(change))

    def feasible(self, around: FeasibleSet) -> FeasibleSet:
        """The grids whose spread change lies, in `linf` exactly and in `l2` nearly, within a picture's budget.

        The picture's own box and rounding are not in it: every candidate is projected into its own set after that.
        """
        budget, origin = around.budget, around.clean.new_full((3, *self.size), ORIGIN)
        if budget.norm == "l2":
            # A value of the grid is spread over n pixels, which makes a length sqrt(n) times as long.
            scale = math.sqrt(math.prod(self.size) / math.prod(self.picture_size))
            # An l2 budget below 1/255 is refused, though a grid can use it: its candidates are not rounded.
            return Budget("l2", max(budget.epsilon * scale, 1 / LEVELS)).centered_at(origin)
        reach = None if around.reach is None else self.average(around.reach.expand_as(around.clean))
        return budget.centered_at(origin, reach)


def coarse_steps(
    attack: Attack, grid: CoarseGrid, feasible: FeasibleSet, start: Tensor, random: torch.Generator
) -> UpdateSteps:
    """The update rule of an attack on the grid of a picture, as a rule on the picture's pixels."""
    clean = feasible.clean
    # `average` of a spread change is a little smoother than the change; that of none is none.
    # Its steps are shares of the grid's own budget, which for `l2` is smaller than the picture's.
    around = grid.feasible(feasible)
    rule = replace(attack, budget=around.budget).update_steps(around, grid.average(start - clean) + ORIGIN, random)
    point = next(rule)
    while True:
        evaluation = yield clean + grid.spread(point - ORIGIN)
        point = rule.send(replace(evaluation, gradient=grid.gather(evaluation.gradient)))


def random_start(grid: CoarseGrid, feasible: FeasibleSet, random: torch.Generator) -> Tensor:
    """A picture whose change is a random point of the grid's ball, spread."""
    coarse = grid.feasible(feasible)
    noise = torch.rand(coarse.clean.shape, generator=random).to(coarse.clean)
    return feasible.project(feasible.clean + grid.spread(coarse.random(noise) - ORIGIN))


def grid_size(height: int, width: int, received: int, share: float) -> tuple[int, int]:
    """Rows and columns of a grid with `share` of the resolution at which a model sees a picture.

    Args:
        height: of the picture.
        width: of the picture.
        received: pixels that the model receives; 0 where that is not known, which counts as all of them.
        share: values along a side, for each pixel that the model sees.
    """
    scale = share * math.sqrt(min(1.0, (received or height * width) / (height * width)))
    return max(1, min(height, round(height * scale))), max(1, min(width, round(width * scale)))


def _interpolation(coarse: int, fine: int) -> Tensor:
    """`fine x coarse` weights of linear interpolation."""
    line = torch.eye(coarse)[None]
    return functional.interpolate(line, fine, mode="linear", align_corners=False)[0].T.contiguous()
