"""Universal perturbation: one change for many pictures.

The attack sees a *canvas*, a grey picture as high as the lowest and as wide as the narrowest of the pictures; its
distance from grey is the change. To reach a picture of another size the change is resized by nearest neighbour, which
repeats or drops values and so keeps them whole 8-bit levels. Each picture is then projected into its own budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.base import DEFAULT_STOP, Attack
from equipoise.attacks.budgets import Budget, FeasibleSet
from equipoise.attacks.objectives import LossAndGrad, Objective, sum_losses
from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
from equipoise.attacks.success_checks import MeanRateCheck
from equipoise.errors import UsageError
from equipoise.media.quantize import LEVELS
from equipoise.models.base import OpenModel

# The middle of the range: the canvas is cut off at 0 and 1 like any picture, and a change must fit on both sides.
GREY = 128 / LEVELS
"""Every value of a canvas without change; a canvas is an 8-bit picture itself."""


def resize_change(change: Tensor, height: int, width: int) -> Tensor:
    """A `3 x h x w` change at another size, its values repeated or left out (nearest neighbour)."""
    if change.shape[1:] == (height, width):
        return change
    # `nearest` (without "-exact") has the bug of old OpenCV versions: it samples at pixel corners, off by half a pixel.
    return functional.interpolate(change[None], (height, width), mode="nearest-exact")[0]


def apply_change(change: Tensor, clean: Tensor, budget: Budget) -> Tensor:
    """A picture with a universal change, within the budget; also for pictures that the attack has not seen."""
    return budget.centered_at(clean).project_quantized(clean + resize_change(change, *clean.shape[1:]))


@dataclass(frozen=True)
class UniversalObjective(Objective):
    """The mean loss of many pictures that share one change, as a loss of the canvas."""

    objectives: tuple[Objective, ...]
    """One for each picture."""
    feasible_sets: tuple[FeasibleSet, ...]
    """The pictures, with their budgets, in the same order."""

    def __post_init__(self) -> None:
        if not self.objectives or len(self.objectives) != len(self.feasible_sets):
            raise UsageError(
                f"expected an objective for each picture, got {len(self.objectives)} for {len(self.feasible_sets)} "
                "pictures; try one each"
            )
        if len({objective.size for objective in self.objectives}) > 1:
            raise UsageError("expected as many questions for every picture, got different counts; try the same ones")

    @property
    def size(self) -> int:
        """Pictures times questions; neighbours differ in the picture."""
        return sum(objective.size for objective in self.objectives)

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The models of the first objective."""
        return self.objectives[0].models

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The bystanders of the first objective."""
        return self.objectives[0].bystanders

    @property
    def is_random(self) -> bool:
        """Whether that of any picture is."""
        return any(objective.is_random for objective in self.objectives)

    @property
    def version(self) -> int:
        """The sum over the pictures."""
        return sum(objective.version for objective in self.objectives)

    def reset(self, random: Generator) -> Self:
        """Reset those of all pictures."""
        return replace(self, objectives=tuple(objective.reset(random) for objective in self.objectives))

    def canvas(self) -> Tensor:
        """A canvas without change."""
        heights, widths = zip(*(feasible.clean.shape[1:] for feasible in self.feasible_sets), strict=True)
        return torch.full_like(self.feasible_sets[0].clean[:, :1, :1], GREY).repeat(1, min(heights), min(widths))

    def picture(self, canvas: Tensor, number: int) -> Tensor:
        """One of the pictures with the change of a canvas, within its budget."""
        # Projected per picture, after the change was resized: a change that fits one picture may leave the box of
        # another, whose values lie nearer to 0 or 1.
        feasible = self.feasible_sets[number]
        return feasible.project_quantized(feasible.clean + resize_change(canvas - GREY, *feasible.clean.shape[1:]))

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient of the canvas over some questions of some pictures."""
        # Item numbers interleave the pictures, so that a random subset touches as many of them as it can.
        questions: dict[int, list[int]] = {}
        for item in items:
            questions.setdefault(item % len(self.objectives), []).append(item // len(self.objectives))
        return sum_losses(
            [self._of_picture(pixels, number, own, len(items), random) for number, own in sorted(questions.items())]
        )

    def _of_picture(self, canvas: Tensor, number: int, items: list[int], count: int, random: Generator) -> LossAndGrad:
        evaluation = self.objectives[number](self.picture(canvas, number), items, random)
        # Each picture's objective is a mean over its own items; weighted by their number, the sum is the mean over all.
        share = len(items) / count
        gradient = evaluation.gradient
        # Straight-through: the projection and the rounding count as the identity, only the resizing is differentiated
        # (it adds up the gradients of all the pixels that repeat one value of the canvas).
        if gradient.shape != canvas.shape:
            with torch.enable_grad():
                leaf = canvas.detach().requires_grad_(True)
                resized = resize_change(leaf, *gradient.shape[1:])
                (gradient,) = torch.autograd.grad(resized, leaf, gradient)
        return LossAndGrad(evaluation.loss * share, gradient * share)

    def score(self, pixels: Tensor) -> float:
        """The mean of the pictures' scores."""
        scores = [objective.score(self.picture(pixels, i)) for i, objective in enumerate(self.objectives)]
        return sum(scores) / len(scores)

    def describe(self) -> dict[str, Any]:
        """The first objective, with the number of pictures."""
        return {"universal_over": len(self.objectives)} | self.objectives[0].describe()


@dataclass(frozen=True, eq=False)
class UniversalPerturbation:
    """The result of an attack on many pictures at once."""

    change: Tensor
    """`3 x h x w`, whole levels in units of `[0, 1]`; `apply_change` adds it to other pictures."""
    pictures: tuple[PerturbationResult, ...]
    """One for each picture, in order; trace, steps and seconds are those of the common attack."""


def run_universal(
    attack: Attack,
    objectives: Sequence[Objective],
    clean: Sequence[Tensor],
    *,
    seed: int = 0,
    success: MeanRateCheck | None = None,
    stop: StopCriteria = DEFAULT_STOP,
    progress: Callable[[TraceStep], None] | None = None,
    floors: Sequence[Tensor | None] = (),
) -> UniversalPerturbation:
    """Run one attack on many pictures with a shared change.

    Args:
        attack: any attack; its budget holds for each picture (for `l2`, also for the canvas).
        objectives: one for each picture, all with as many questions.
        clean: 8-bit pictures, `3 x H x W`, possibly of different sizes.
        seed: as in `Attack`.
        success: the success rate over all perturbed pictures; None for no checks.
        stop: as in `Attack`.
        progress: as in `Attack`.
        floors: as in `Attack`, one for each picture; empty for none.

    Raises:
        UsageError: no pictures, or not as many objectives.
    """
    sets = (
        attack.budget.centered_at(pixels, floor=floor)
        for pixels, floor in zip(clean, floors or [None] * len(clean), strict=True)
    )
    shared = UniversalObjective(tuple(objectives), tuple(sets))

    def pictures_of(canvas: Tensor) -> list[Tensor]:
        return [shared.picture(canvas, number) for number in range(len(shared.feasible_sets))]

    result = attack(
        shared,
        shared.canvas(),
        seed=seed,
        success=None if success is None else _CanvasCheck(success, pictures_of, stop.target_rate),
        stop=stop,
        progress=progress,
    )
    canvas = result.pixels.to(shared.canvas())
    pictures = []
    for number, pixels in enumerate(pictures_of(canvas)):
        own = {"objective": {"universal_over": len(objectives)} | objectives[number].describe()}
        pictures.append(replace(result, recipe=result.recipe | own).for_picture(number, pixels, clean[number]))
    return UniversalPerturbation(canvas - GREY, tuple(pictures))


@dataclass(frozen=True)
class _CanvasCheck:
    """A success check of the pictures, as one of the canvas."""

    check: MeanRateCheck
    pictures_of: Callable[[Tensor], list[Tensor]]
    target_rate: float

    def __call__(self, canvas: Tensor) -> float:
        return self.with_target(canvas, self.target_rate)

    def with_target(self, canvas: Tensor, target_rate: float) -> float:
        return self.check.with_target(self.pictures_of(canvas), target_rate)

    def in_full(self, canvas: Tensor) -> float:
        return self.check.in_full(self.pictures_of(canvas))
