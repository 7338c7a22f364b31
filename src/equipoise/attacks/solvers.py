"""Update rules of the attacks: the next candidate from a loss and its gradient.

Each rule is a generator: it yields a candidate and is sent the `LossAndGrad` at the projected, quantised candidate.
"""

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
    # The limit turns 0 / 0 into 0: with a zero gradient the picture stays where it is, instead of becoming NaN.
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

    def update_steps(self, feasible: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`x <- project(x - alpha_t direction(gradient))`."""
        pixels, step = start, 0
        while True:
            evaluation = yield pixels
            move = feasible.scaled(direction(evaluation.gradient, self.budget.norm))
            pixels = feasible.project(pixels - self.step_size(step) * move)
            step += 1


@dataclass(frozen=True)
class PaperBim(Bim):
    """The rule of the official MLLM-Refusal code: the sign of each question's gradient, then their mean.

    As there: no random start, step size 0.005 falling to 1e-4 along a cosine, 1500 steps, three random questions
    a step one after the other, an end after 30 steps in a row with a loss below 0.001, and a perturbation that is
    kept in the epsilon ball only. Not as there: the loss is taken at the feasible 8-bit picture (the official one
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
        terms = []
        for item in items:
            evaluation = objective(pixels, [item], random)
            move = direction(evaluation.gradient, self.budget.norm)
            terms.append(LossAndGrad(evaluation.loss / len(items), move / len(items)))
        return sum_losses(terms)

    def update_steps(self, feasible: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`delta <- clamp(delta - alpha_t mean of signs)`, in the ball but not in the box."""
        clean, change, step = feasible.clean, start - feasible.clean, 0
        epsilon = self.budget.epsilon
        while True:
            evaluation = yield clean + change
            # Not the direction of the gradient: `loss_and_grad` has already taken each question's.
            change = change - self.step_size(step) * evaluation.gradient
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

    def update_steps(self, feasible: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """`g <- mu g + gradient / |gradient|_1`, `x <- project(x - alpha_t direction(g))`."""
        pixels, velocity, step = start, torch.zeros_like(start), 0
        while True:
            evaluation = yield pixels
            # Each gradient is scaled to an l1 norm of 1 before it is added, so that steps with a steep loss do not
            # outweigh all others in the sum.
            size = evaluation.gradient.abs().sum().clamp_min(torch.finfo(start.dtype).tiny)
            velocity = self.decay * velocity + evaluation.gradient / size
            move = feasible.scaled(direction(velocity, self.budget.norm))
            pixels = feasible.project(pixels - self.step_size(step) * move)
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

    def update_steps(self, feasible: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """Equations 1 and 2; at each checkpoint, conditions 1 and 2, and back to the best point."""
        # The paper's first step is the diameter of the ball: from any point it can reach the other side.
        norm, step_size = self.budget.norm, 2 * self.budget.epsilon
        evaluation = yield start
        best, best_evaluation = start, evaluation
        previous, pixels, last_loss = start, start, evaluation.loss
        checkpoints, improved, window = apgd_checkpoints(self.steps), 0, 0
        # Step size and best loss at the last checkpoint, for condition 2.
        checkpoint_size, checkpoint_loss = step_size, best_evaluation.loss
        step = 0
        while True:
            move = feasible.scaled(direction(evaluation.gradient, norm))
            ahead = feasible.project(pixels - step_size * move)
            if step:
                # Equation 2: a momentum on the points, not on the gradients; projected again because a sum of points
                # of the ball and a difference may leave it.
                ahead = pixels + self.momentum * (ahead - pixels) + (1 - self.momentum) * (pixels - previous)
                ahead = feasible.project(ahead)
            previous, pixels = pixels, ahead
            evaluation = yield pixels
            step, window = step + 1, window + 1
            improved += evaluation.loss < last_loss
            last_loss = evaluation.loss
            if evaluation.loss < best_evaluation.loss:
                best, best_evaluation = pixels, evaluation
            if step in checkpoints:
                # Condition 1: too few steps of the window lowered the loss. Condition 2: since the last checkpoint
                # neither the step size was halved nor a better point reached. Either way the step is too long here:
                # halve it and restart from the best point, with its gradient and without momentum.
                stuck = checkpoint_size == step_size and checkpoint_loss == best_evaluation.loss
                checkpoint_size, checkpoint_loss = step_size, best_evaluation.loss
                if improved < self.rho * window or stuck:
                    step_size /= 2
                    pixels, previous, evaluation, last_loss = best, best, best_evaluation, best_evaluation.loss
                improved = window = 0


def apgd_checkpoints(steps: int) -> set[int]:
    """The checkpoints of Auto-PGD: 0.22, 0.41, ... of the steps, each distance 0.03 shorter, at least 0.06."""
    previous, mark = 0, 22  # in hundredths, as floats would miss the whole steps
    checkpoints: set[int] = set()
    while mark < 100:
        checkpoints.add(-(-mark * steps // 100))
        previous, mark = mark, mark + max(mark - previous - 3, 6)
    return checkpoints


SOLVERS: Final[dict[str, Callable[..., Attack]]] = {
    "bim": Bim,
    "bim-paper": PaperBim,
    "momentum": Momentum,
    "apgd": Apgd,
}
"""Solvers by the names that the command line uses."""
