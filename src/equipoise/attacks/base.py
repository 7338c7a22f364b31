"""`Attack`: subclasses propose pixels; the base class projects, evaluates, checks and keeps the best.

The loss is only ever taken at a feasible picture: 8-bit, within the budget, within `[0, 1]`. The best feasible picture
is the result, so a result keeps the budget whatever the update rule does.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, final

import torch
from torch import Tensor

from equipoise.attacks.attack_state import AttackState, StopCriteria
from equipoise.attacks.budgets import Budget, FeasibleSet
from equipoise.attacks.low_frequency import CoarseGrid, coarse_steps, random_start
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perceptual import Perceptual, PerceptualObjective
from equipoise.attacks.perturbation_result import AttackOutcome, PerturbationResult, StopReason, TraceStep
from equipoise.attacks.setting_checks import check_counts
from equipoise.errors import UsageError

UpdateSteps = Generator[Tensor, LossAndGrad, None]
"""Yields candidate pixels (not yet projected); receives loss and gradient at the projected, quantised candidate."""
FIRST_STEPS: Final = 20
"""Steps of an attack that evaluate `Attack.questions_first` items each, the first."""
SETTLED_LOSS: Final = 0.1
"""The loss in nats per token up to which a picture that passed is taken to pass on other questions, too."""
LONGEST_SETTLE: Final = 4
"""Times `Attack.settle`: the steps after which a picture that passed is the result whatever its loss."""
DEFAULT_STOP: Final = StopCriteria()
"""A check every ten steps, a target rate of 1, no time limit."""


@dataclass(frozen=True)
class Attack(ABC):
    """Lower an objective within a budget.

    Subclasses write `update_steps`. Fields are the method; objective, picture and seed arrive at the call.
    """

    budget: Budget
    """How far the picture may be moved."""
    steps: int = 100
    """Most updates of one start."""
    questions_per_step: int | None = None
    """How many items of the objective a step evaluates, drawn anew each step; None evaluates all."""
    questions_first: int | None = None
    """How many items each of the first `FIRST_STEPS` steps evaluates, where nothing else is random: far from the goal a
    few questions point the same way as many. None: as many as later."""
    restarts: int = 1
    """How many starts; those after the first begin at a random point of the ball."""
    random_start: bool = False
    """Whether the first start begins at a random point too."""
    converged_loss: float = 1e-3
    """A run stops when the loss stays below this ..."""
    converged_steps: int = 30
    """... for this many steps in a row."""
    settle: int | None = None
    """Steps after the first success, and up to `LONGEST_SETTLE` times as many while the loss is above `SETTLED_LOSS`,
    or, where it is random for the same questions, that of any of so many steps. Their picture is the result if as many
    questions are refused: what has just passed may fail on questions that nobody has checked."""
    perceptual: Perceptual | None = None
    """How the change is kept from being seen, in stages that share the steps; None for one stage of all of it."""
    grid: tuple[int, int] | None = None
    """Rows and columns of a coarse grid whose values are moved, in place of those of the pixels; a change is linear
    between them. None moves every pixel."""

    def __post_init__(self) -> None:
        check_counts(self, steps=100, restarts=1, converged_steps=30, questions_per_step=10, questions_first=5)
        check_counts(self, least=0, settle=3)
        if self.grid is not None and min(self.grid) < 1:
            raise UsageError(f"expected a grid of at least 1 x 1 values, got {self.grid}; try (96, 96)")
        if self.perceptual is not None and self.budget.norm != "linf":
            raise UsageError("expected norm linf with a perceptual budget, got l2; try Budget('linf', 8 / 255)")

    @abstractmethod
    def update_steps(self, feasible: FeasibleSet, start: Tensor, random: torch.Generator) -> UpdateSteps:
        """The update rule: yield the start, then a candidate after each loss and gradient, without end.

        Args:
            feasible: the ball and the box; a rule may use `feasible.project`, but need not.
            start: where to begin, `3 x H x W`.
            random: source of all randomness, on the CPU.
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
        stop: StopCriteria = DEFAULT_STOP,
        progress: Callable[[TraceStep], None] | None = None,
        floor: Tensor | None = None,
    ) -> PerturbationResult:
        """Attack one picture.

        Args:
            objective: what to lower.
            clean: the 8-bit picture, `3 x H x W` floats in `[0, 1]`.
            seed: the same seed gives the same bytes, unless `stop.max_seconds` cuts a run short.
            success: takes a feasible picture and returns its success rate in `[0, 1]`, by decoding replies; the first
                picture that reaches `stop.target_rate` is the result.
            stop: when to check and when to stop; the time is that of all starts together.
            progress: called with every step.
            floor: `H x W`, the lowest value that each pixel can have in the file; None is 0.

        Raises:
            UsageError: pixels that are not an 8-bit picture.
            ModelError: the loss or the gradient is not finite at the start.
        """
        _require_pixels(clean)
        stages = self._stages(clean, floor)
        if self.perceptual is not None:
            objective = PerceptualObjective(objective, clean, self.perceptual)
        # One generator for all that is drawn, and on the CPU: a GPU's generator gives other numbers for the same seed.
        random = torch.Generator().manual_seed(seed)
        state = AttackState(objective, clean, stop, success, progress, exact=not self._is_random(objective))
        # The gradients of a step are taken inside `_evaluate`; nothing else may build a graph.
        with torch.no_grad():
            for restart in range(self.restarts):
                # A fresh objective for every start: one that learns (CroPA) would otherwise meet the new start with
                # what it learned against the old one, and the losses of the two starts would mean different things.
                stopped = self._run_stages(state, objective.reset(random), stages, restart, random)
                # A start that converged or used up its steps may be followed by a luckier one; the others end the
                # attack.
                if stopped in ("success", "time", "diverged"):
                    break
        outcome = AttackOutcome(
            recipe=self.describe() | {"objective": objective.describe(), "chosen_by": state.chosen_by} | asdict(stop),
            seed=seed,
            trace=tuple(state.trace),
            steps=state.steps,
            seconds=time.perf_counter() - state.started,
            stopped=stopped,
            rate=state.rate,
            warnings=tuple(state.warnings(stages[-1])),
        )
        return PerturbationResult.of(
            state.best(), clean, self.budget, outcome, models=objective.models, bystanders=objective.bystanders
        )

    def describe(self) -> dict[str, Any]:
        """The attack as JSON: its class and its fields."""
        fields = {"attack": type(self).__name__} | asdict(self)
        # Named only where it is used, so that recipes of earlier versions stay the same.
        later = ("perceptual", "questions_first", "settle", "grid")
        return {name: value for name, value in fields.items() if name not in later or value is not None}

    def _is_random(self, objective: Objective) -> bool:
        subsampled = self.questions_per_step is not None and self.questions_per_step < objective.size
        return subsampled or objective.is_random

    def _stages(self, clean: Tensor, floor: Tensor | None) -> list[FeasibleSet]:
        """The feasible sets that a start goes through, each in the next one; the last is the whole budget."""
        if self.perceptual is None:
            return [self.budget.centered_at(clean, floor=floor)]
        reaches = self.perceptual.reaches(clean, self.budget.epsilon)
        # Each stage needs a step of its own.
        return [self.budget.centered_at(clean, reach, floor) for reach in reaches[-self.steps :]]

    def _run_stages(
        self, state: AttackState, objective: Objective, stages: list[FeasibleSet], restart: int, random: torch.Generator
    ) -> StopReason:
        """One start: each stage goes on from where the one before has come to."""
        start = stages[0].clean
        if self.random_start or restart:
            if self.grid is None:
                start = stages[0].random(torch.rand(start.shape, generator=random).to(start))
            else:
                # Noise of every pixel would be averaged away on the grid.
                start = random_start(self._grid_over(start), stages[0], random)
        # A rule's step sizes fall over its own steps, so that each stage has a rule with its share of all steps.
        share = max(1, self.steps // len(stages))
        stopped: StopReason = "steps"
        for number, feasible in enumerate(stages):
            last = number == len(stages) - 1
            steps = self.steps - number * share if last else share
            stopped, start = self._run(state, objective, feasible, start, steps, random, last=last)
            if stopped not in ("steps", "converged"):
                break
        return stopped

    def _run(
        self,
        state: AttackState,
        objective: Objective,
        feasible: FeasibleSet,
        start: Tensor,
        steps: int,
        random: torch.Generator,
        *,
        last: bool,
    ) -> tuple[StopReason, Tensor]:
        """One stage: feed the update rule with evaluations of its projected candidates until something stops it.

        Returns:
            Why it ended, and its last candidate.
        """
        attack = self if steps == self.steps else replace(self, steps=steps)
        if attack.grid is None:
            rule = attack.update_steps(feasible, start, random)
        else:
            rule = coarse_steps(attack, attack._grid_over(start), feasible, start, random)
        # `next` runs the rule up to its first `yield`, its start; a generator takes nothing by `send` before that.
        candidate = feasible.project_quantized(next(rule))
        low_steps = 0
        left: int | None = None
        for _ in range(steps):
            if state.out_of_time():
                return "success" if state.passed else "time", candidate
            evaluation = self._evaluate(
                objective, candidate, random, self._item_count(state, is_random=objective.is_random)
            )
            state.record(candidate, evaluation)
            if state.diverged:
                return "success" if state.passed else "diverged", candidate
            if left is not None:
                left -= 1
            elif state.check_due() and state.check(candidate, brief=bool(self.settle)):
                left = self.settle or 0
            if left is not None and self._settled(left, state.trace, is_random=objective.is_random):
                if not state.just_checked:
                    state.check(candidate)
                if state.passed:
                    return "success", candidate
                # A brief check has passed, and not the one of all questions: the run goes on.
                left = None
            # In a row: with a random subset of the questions, a single low loss may be a lucky draw.
            low_steps = low_steps + 1 if evaluation.loss < self.converged_loss else 0
            if low_steps >= self.converged_steps and left is None:
                return "success" if state.finalize(candidate) else "converged", candidate
            # The rule continues from its own unrounded point, not from the candidate: steps below half a level would
            # otherwise be rounded away one by one and never add up.
            candidate = feasible.project_quantized(rule.send(evaluation))
        if state.passed:
            return "success", candidate
        # A final check asks every question of several candidates, so only at the end of all stages. The end of another
        # stage is checked unless a check has just failed: what follows begins with its candidate.
        passed = state.finalize(candidate) if last else not state.just_checked and state.check(candidate)
        return "success" if passed else "steps", candidate

    def _settled(self, left: int, trace: list[TraceStep], *, is_random: bool) -> bool:
        # Among pictures that pass, those with a loss above this are the ones that fail on questions nobody has checked.
        # The loss may never get there, so that the wait for it has an end.
        settle = self.settle or 0
        # One low loss of random transforms may be a lucky draw.
        losses = [step.loss for step in trace[-settle if is_random and settle else -1 :]]
        return left <= 0 and (max(losses) < SETTLED_LOSS or left <= -settle * (LONGEST_SETTLE - 1))

    def _grid_over(self, pixels: Tensor) -> CoarseGrid:
        assert self.grid is not None
        return CoarseGrid(self.grid, (pixels.shape[1], pixels.shape[2]))

    def _item_count(self, state: AttackState, *, is_random: bool) -> int | None:
        """How many items the next step evaluates; None for all."""
        few, later = self.questions_first, self.questions_per_step
        # Random transforms make a gradient noisy enough.
        if few is None or later is None or is_random or state.steps >= FIRST_STEPS:
            return later
        return min(few, later)

    def _evaluate(
        self, objective: Objective, candidate: Tensor, random: torch.Generator, items_wanted: int | None
    ) -> LossAndGrad:
        count = objective.size
        items = list(range(count))
        if items_wanted is not None and items_wanted < count:
            # Without replacement: a question that came twice in one step would weigh double.
            items = torch.randperm(count, generator=random)[:items_wanted].tolist()
        with torch.enable_grad():
            return self.loss_and_grad(objective, candidate, items, random)


def _require_pixels(clean: Tensor) -> None:
    if not isinstance(clean, Tensor) or clean.ndim != 3 or clean.shape[0] != 3 or 0 in clean.shape:
        shape = tuple(clean.shape) if isinstance(clean, Tensor) else type(clean).__name__
        raise UsageError(f"expected pixels of shape 3 x height x width, got {shape}; try to_pixels(picture)")
    if not clean.is_floating_point():
        raise UsageError(f"expected float pixels in [0, 1], got {clean.dtype}; try to_pixels(picture)")
    low, high = float(clean.min()), float(clean.max())
    if not (math.isfinite(low) and math.isfinite(high) and low >= 0 and high <= 1):
        raise UsageError(f"expected pixels in [0, 1], got {low:g}..{high:g}; try to_pixels(picture)")
