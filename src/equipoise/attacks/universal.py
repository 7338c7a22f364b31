"""One change for many pictures.

The change lives on a canvas as high as the lowest and as wide as the narrowest picture, and is stretched to each
picture by repeating its values (nearest neighbour), which keeps them whole levels and its largest value what it
was. Each picture is then brought into its own budget, box and 8-bit grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.attacks.base import Attack
from equipoise.attacks.budgets import LEVELS, Budget, FeasibleSet
from equipoise.attacks.objectives import LossAndGrad, Objective, sum_losses
from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel

GREY = 128 / LEVELS
"""What a canvas without change holds everywhere; canvases are 8-bit pictures themselves."""


def resize_change(change: Tensor, height: int, width: int) -> Tensor:
    """A `3 x h x w` change at another size, each value repeated or left out."""
    if change.shape[1:] == (height, width):
        return change
    return functional.interpolate(change[None], (height, width), mode="nearest-exact")[0]


def apply_change(change: Tensor, clean: Tensor, budget: Budget) -> Tensor:
    """The legal picture that a universal change makes of one picture, which it need not have been made for."""
    return budget.centered_at(clean).project_quantized(clean + resize_change(change, *clean.shape[1:]))


@dataclass(frozen=True)
class UniversalObjective(Objective):
    """The mean loss of many pictures that share one change, as a loss of the canvas."""

    objectives: tuple[Objective, ...]
    """One for each picture."""
    regions: tuple[FeasibleSet, ...]
    """The pictures, with their budgets."""

    def __post_init__(self) -> None:
        if not self.objectives or len(self.objectives) != len(self.regions):
            raise UsageError(
                f"expected an objective for each picture, got {len(self.objectives)} for {len(self.regions)} "
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

    def reset(self, random: Generator) -> Self:
        """Begin those of all pictures."""
        return replace(self, objectives=tuple(objective.reset(random) for objective in self.objectives))

    def canvas(self) -> Tensor:
        """A canvas without change."""
        heights, widths = zip(*(region.clean.shape[1:] for region in self.regions), strict=True)
        return torch.full_like(self.regions[0].clean[:, :1, :1], GREY).repeat(1, min(heights), min(widths))

    def picture(self, canvas: Tensor, number: int) -> Tensor:
        """The legal picture that a canvas makes of one of the pictures."""
        region = self.regions[number]
        return region.project_quantized(region.clean + resize_change(canvas - GREY, *region.clean.shape[1:]))

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient of the canvas over some questions of some pictures."""
        asked: dict[int, list[int]] = {}
        for item in items:
            asked.setdefault(item % len(self.objectives), []).append(item // len(self.objectives))
        return sum_losses([self._of_picture(pixels, i, own, len(items), random) for i, own in sorted(asked.items())])

    def _of_picture(self, canvas: Tensor, number: int, items: list[int], count: int, random: Generator) -> LossAndGrad:
        slope = self.objectives[number](self.picture(canvas, number), items, random)
        share = len(items) / count
        gradient = slope.gradient
        if gradient.shape != canvas.shape:
            with torch.enable_grad():
                leaf = canvas.detach().requires_grad_(True)
                seen = resize_change(leaf, *gradient.shape[1:])
                (gradient,) = torch.autograd.grad(seen, leaf, gradient)
        return LossAndGrad(slope.loss * share, gradient * share)

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
    """`3 x h x w`, whole levels in units of `[0, 1]`; for `apply` on other pictures."""
    pictures: tuple[PerturbationResult, ...]
    """One for each picture, in order; trace, steps and seconds are those of the common attack."""


def run_universal(
    attack: Attack,
    objectives: Sequence[Objective],
    clean: Sequence[Tensor],
    *,
    seed: int = 0,
    success: Callable[[Sequence[Tensor]], float] | None = None,
    check_every: int = 10,
    target_rate: float = 1.0,
    max_seconds: float | None = None,
    progress: Callable[[TraceStep], None] | None = None,
) -> UniversalPerturbation:
    """Run one attack on many pictures with a shared change.

    Args:
        attack: any attack; its budget holds for each picture (for `l2`, also for the canvas).
        objectives: one for each picture, all with as many questions.
        clean: 8-bit pictures, possibly of different sizes.
        seed: as in `Attack`.
        success: takes all legal pictures and returns the success rate over them.
        check_every: as in `Attack`.
        target_rate: as in `Attack`.
        max_seconds: as in `Attack`.
        progress: as in `Attack`.

    Raises:
        UsageError: no pictures, or not as many objectives.
    """
    shared = UniversalObjective(tuple(objectives), tuple(attack.budget.centered_at(pixels) for pixels in clean))
    numbers = range(len(shared.regions))

    def over_all(canvas: Tensor) -> float:
        assert success is not None
        return success([shared.picture(canvas, i) for i in numbers])

    result = attack(
        shared,
        shared.canvas(),
        seed=seed,
        success=over_all if success else None,
        check_every=check_every,
        target_rate=target_rate,
        max_seconds=max_seconds,
        progress=progress,
    )
    canvas = result.pixels.to(shared.canvas())
    pictures = tuple(
        PerturbationResult.of(
            shared.picture(canvas, i),
            shared.regions[i].clean,
            attack.budget,
            recipe=result.recipe | {"picture": i},
            models=shared.models,
            bystanders=shared.bystanders,
            seed=seed,
            trace=result.trace,
            steps=result.steps,
            seconds=result.seconds,
            stopped=result.stopped,
            rate=result.rate,
            warnings=result.warnings,
        )
        for i in numbers
    )
    return UniversalPerturbation(canvas - GREY, pictures)
