"""`Attack`: subclasses propose pixels, the base class sees to the contract.

The loss is only ever taken at a legal picture: 8-bit, within the budget, within `[0, 1]`. The best legal picture
is kept, so a result is legal whatever the update rule does.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any, final

import torch
from torch import Tensor

from equipoise.attacks.attack_state import AttackState, StopCriteria
from equipoise.attacks.budgets import Budget, FeasibleSet
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perturbation_result import PerturbationResult, Stop, TraceStep
from equipoise.errors import UsageError

UpdateSteps = Generator[Tensor, LossAndGrad, None]
"""Yields proposals, which may break every limit; is sent the slope at the legal picture next to each."""


@dataclass(frozen=True)
class Attack(ABC):
    """Lower an objective within a budget.

    Subclasses write `rule`. Fields are the method; objective, picture and seed arrive at the call.
    """

    budget: Budget
    """How far the picture may be moved."""
    steps: int = 100
    """Most updates of one start."""
    questions_per_step: int | None = None
    """How many items of the objective a step looks at, drawn anew each step; None looks at all."""
    restarts: int = 1
    """How many starts; those after the first begin at a random place of the ball."""
    random_start: bool = False
    """Whether the first start begins at a random place too."""
    converged_loss: float = 1e-3
    """A run stops when the loss stays below this ..."""
    converged_steps: int = 30
    """... for this many steps in a row."""

    def __post_init__(self) -> None:
        for name in ("steps", "restarts", "converged_steps"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} of at least 1, got {getattr(self, name)}; try 100 steps, 1 restart")
        if self.questions_per_step is not None and self.questions_per_step < 1:
            raise UsageError(f"expected at least 1 question per step, got {self.questions_per_step}; try 10")

    @abstractmethod
    def update_steps(self, region: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """The update rule: yield the start, then a proposal after each slope, without end.

        Args:
            region: the ball and the box; `region.project` is there to be used, but nobody has to.
            start: where to begin, `3 x H x W`.
            random: source of all chance, on the CPU.
        """

    def loss_and_grad(
        self, objective: Objective, pixels: Tensor, items: list[int], random: torch.Generator
    ) -> LossAndGrad:
        """Loss and gradient of one step; a subclass may combine the questions in another way."""
        return objective(pixels, items, random)

    @final
    def __call__(
        self,
        objective: Objective,
        clean: Tensor,
        *,
        seed: int = 0,
        success: Callable[[Tensor], float] | None = None,
        check_every: int = 10,
        target_rate: float = 1.0,
        max_seconds: float | None = None,
        progress: Callable[[TraceStep], None] | None = None,
    ) -> PerturbationResult:
        """Attack one picture.

        Args:
            objective: what to lower.
            clean: the 8-bit picture, `3 x H x W` floats in `[0, 1]`.
            seed: the same seed gives the same bytes, unless `max_seconds` cuts a run short.
            success: takes a legal picture and returns its success rate in `[0, 1]`, by really asking; the first
                picture that reaches `target_rate` is the result.
            check_every: steps between two checks; where the loss is random, also between two exact scores.
            target_rate: the success rate to reach.
            max_seconds: time for all starts together; the best picture so far is the result.
            progress: is told of every step.

        Raises:
            UsageError: pixels that are not an 8-bit picture, or limits that make no sense.
            ModelError: the loss or the gradient is not finite at the start.
        """
        _require_pixels(clean)
        limits = StopCriteria(check_every, target_rate, max_seconds)
        region = self.budget.centered_at(clean)
        random = torch.Generator().manual_seed(seed)
        search = AttackState(objective, clean, limits, success, progress, exact=not self._is_random(objective))
        with torch.no_grad():
            for restart in range(self.restarts):
                stop = self._run(search, objective.reset(random), region, restart, random)
                if stop in ("success", "time", "broken"):
                    break
        return PerturbationResult.of(
            search.best(),
            clean,
            self.budget,
            recipe=self.describe() | {"objective": objective.describe()} | asdict(limits),
            models=objective.models,
            bystanders=objective.bystanders,
            seed=seed,
            trace=tuple(search.trace),
            steps=search.steps,
            seconds=time.perf_counter() - search.started,
            stopped=stop,
            rate=search.rate,
            warnings=tuple(search.warnings(region)),
        )

    def describe(self) -> dict[str, Any]:
        """The attack as JSON: its class and its fields."""
        return {"attack": type(self).__name__} | asdict(self)

    def _is_random(self, objective: Objective) -> bool:
        few = self.questions_per_step is not None and self.questions_per_step < objective.size
        return few or objective.is_random

    def _run(
        self, search: AttackState, objective: Objective, region: FeasibleSet, restart: int, random: torch.Generator
    ) -> Stop:
        start = region.clean
        if self.random_start or restart:
            start = region.random(torch.rand(start.shape, generator=random).to(start))
        rule = self.update_steps(region, start, random)
        legal = region.project_quantized(next(rule))
        low = 0
        for _ in range(self.steps):
            if search.out_of_time():
                return "time"
            slope = self._evaluate(objective, legal, random)
            search.record(legal, slope)
            if search.diverged:
                return "broken"
            if search.check_due() and search.check(legal):
                return "success"
            low = low + 1 if slope.loss < self.converged_loss else 0
            if low >= self.converged_steps:
                return "success" if search.finalize(legal) else "converged"
            legal = region.project_quantized(rule.send(slope))
        return "success" if search.finalize(legal) else "steps"

    def _evaluate(self, objective: Objective, legal: Tensor, random: torch.Generator) -> LossAndGrad:
        count = objective.size
        items = list(range(count))
        if self.questions_per_step is not None and self.questions_per_step < count:
            items = torch.randperm(count, generator=random)[: self.questions_per_step].tolist()
        with torch.enable_grad():
            return self.loss_and_grad(objective, legal, items, random)


def _require_pixels(clean: Tensor) -> None:
    if not isinstance(clean, Tensor) or clean.ndim != 3 or clean.shape[0] != 3 or 0 in clean.shape:
        shape = tuple(clean.shape) if isinstance(clean, Tensor) else type(clean).__name__
        raise UsageError(f"expected pixels of shape 3 x height x width, got {shape}; try to_pixels(picture)")
    if not clean.is_floating_point():
        raise UsageError(f"expected float pixels in [0, 1], got {clean.dtype}; try to_pixels(picture)")
    low, high = float(clean.min()), float(clean.max())
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= 1):
        raise UsageError(f"expected pixels in [0, 1], got {low:g}..{high:g}; try to_pixels(picture)")
