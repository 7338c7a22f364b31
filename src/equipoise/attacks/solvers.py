"""Update rules: how the next picture is proposed from a slope."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from equipoise.attacks.base import Attack, UpdateSteps
from equipoise.attacks.budgets import FeasibleSet, Norm
from equipoise.attacks.objectives import LossAndGrad, Objective, sum_losses
from equipoise.errors import UsageError


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """The step size of one step under cosine decay from `first` (step 0) to `last` (step `steps`)."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of steepest ascent of length 1 in a norm: the sign, or the unit vector."""
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)


@dataclass(frozen=True)
class Bim(Attack):
    """Basic iterative method (Kurakin et al. 2017): small steps along the summed gradient.

    `linf` steps follow the sign, `l2` steps the unit vector.
    """

    alpha: float | None = None
    """First step size, in the budget's norm; None means a quarter of epsilon."""
    alpha_last: float | None = None
    """Step size at the end of the cosine decay; None means a fiftieth of the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for alpha in (self.alpha, self.alpha_last):
            if alpha is not None and not alpha > 0:
                raise UsageError(f"expected a step size above 0, got {alpha:g}; try {self.budget.epsilon / 4:g}")

    def step_size(self, step: int) -> float:
        """The step size of one step."""
        first = self.budget.epsilon / 4 if self.alpha is None else self.alpha
        return cosine(first, first / 50 if self.alpha_last is None else self.alpha_last, step, self.steps)

    def update_steps(self, region: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`x <- project(x - alpha_t direction(gradient))`."""
        here, step = start, 0
        while True:
            slope = yield here
            move = direction(slope.gradient, self.budget.norm)
            here = region.project(here - self.step_size(step) * move)
            step += 1


@dataclass(frozen=True)
class PaperBim(Bim):
    """The rule of the official MLLM-Refusal code: the sign of each question's gradient, then their mean.

    As there: no random start, step size 0.005 falling to 1e-4 along a cosine, 1500 steps, three random questions
    a step one after the other, an end after 30 steps in a row with a loss below 0.001, and a perturbation that is
    kept in the epsilon ball only. Not as there: the loss is taken at the legal 8-bit picture (the official one
    leaves `[0, 1]` and is rounded when saved), and the picture has its own resolution. `l2` steps average unit
    vectors.
    """

    steps: int = 1500
    """As in the official code."""
    questions_per_step: int | None = 3
    """As in the official code, for similar and general questions."""
    alpha: float | None = 0.005
    """As in the official code; 0.007 for its exact questions."""
    alpha_last: float | None = 1e-4
    """As in the official code."""

    def loss_and_grad(
        self, objective: Objective, pixels: Tensor, items: list[int], random: torch.Generator
    ) -> LossAndGrad:
        """Each question by itself; the gradient becomes the mean of their directions."""
        slopes = []
        for item in items:
            slope = objective(pixels, [item], random)
            move = direction(slope.gradient, self.budget.norm)
            slopes.append(LossAndGrad(slope.loss / len(items), move / len(items)))
        return sum_losses(slopes)

    def update_steps(self, region: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`delta <- clamp(delta - alpha_t mean of signs)`, in the ball but not in the box."""
        clean, change, step = region.clean, start - region.clean, 0
        epsilon = self.budget.epsilon
        while True:
            slope = yield clean + change
            change = change - self.step_size(step) * slope.gradient
            if self.budget.norm == "linf":
                change = change.clamp_(-epsilon, epsilon)
            else:
                change = change * min(1.0, epsilon / max(float(change.norm()), 1e-12))
            step += 1


@dataclass(frozen=True)
class Momentum(Bim):
    """MI-FGSM (Dong et al. 2018, equations 6 and 7): steps along a decaying sum of normalised gradients."""

    decay: float = 0.9
    """The factor mu that the sum keeps; 1.0 in the paper, 0 is `Bim`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay <= 1:
            raise UsageError(f"expected a decay in 0..1, got {self.decay:g}; try 0.9")

    def update_steps(self, region: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`g <- mu g + gradient / |gradient|_1`, `x <- project(x - alpha_t direction(g))`."""
        here, gathered, step = start, torch.zeros_like(start), 0
        while True:
            slope = yield here
            size = slope.gradient.abs().sum().clamp_min(torch.finfo(start.dtype).tiny)
            gathered = self.decay * gathered + slope.gradient / size
            here = region.project(here - self.step_size(step) * direction(gathered, self.budget.norm))
            step += 1


@dataclass(frozen=True)
class Apgd(Attack):
    """Auto-PGD (Croce and Hein 2020, algorithm 1): step halving at checkpoints, and a momentum on the points.

    With a random objective (question sub-sampling, EOT) the halving conditions see noisy losses.
    """

    momentum: float = 0.75
    """The factor alpha of equation 2."""
    rho: float = 0.75
    """Share of improving steps below which the step is halved (condition 1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.momentum <= 1 and 0 <= self.rho <= 1):
            raise UsageError(f"expected momentum and rho in 0..1, got {self.momentum:g}, {self.rho:g}; try 0.75")

    def update_steps(self, region: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """Equations 1 and 2; at each checkpoint, conditions 1 and 2, and back to the best point."""
        norm, size = self.budget.norm, 2 * self.budget.epsilon
        slope = yield start
        best, best_slope, best_loss = start, slope, slope.loss
        before, here, last_loss = start, start, slope.loss
        marks, improved, window = _checkpoints(self.steps), 0, 0
        known_size, known_best = size, best_loss
        step = 0
        while True:
            ahead = region.project(here - size * direction(slope.gradient, norm))
            if step:
                ahead = region.project(here + self.momentum * (ahead - here) + (1 - self.momentum) * (here - before))
            before, here = here, ahead
            slope = yield here
            step, window = step + 1, window + 1
            improved += slope.loss < last_loss
            last_loss = slope.loss
            if slope.loss < best_loss:
                best, best_slope, best_loss = here, slope, slope.loss
            if step in marks:
                stuck = known_size == size and known_best == best_loss
                known_size, known_best = size, best_loss
                if improved < self.rho * window or stuck:
                    size, here, slope, before, last_loss = size / 2, best, best_slope, best, best_loss
                improved = window = 0


def _checkpoints(steps: int) -> set[int]:
    """Where Auto-PGD looks back: shares 0.22, 0.41, ... of the steps, each distance 0.03 less, at least 0.06."""
    before, mark = 0, 22  # in hundredths, as floats would miss the whole steps
    found: set[int] = set()
    while mark < 100:
        found.add(-(-mark * steps // 100))
        before, mark = mark, mark + max(mark - before - 3, 6)
    return found


SOLVERS: Final[dict[str, Callable[..., Attack]]] = {
    "bim": Bim,
    "bim-paper": PaperBim,
    "momentum": Momentum,
    "apgd": Apgd,
}
"""Solvers by the names that the command line uses."""
