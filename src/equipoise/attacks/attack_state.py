"""The state of one attack while it runs: its trace, its best candidate, when to check and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.attacks.budgets import FeasibleSet
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perturbation_result import TraceStep
from equipoise.errors import ModelError, UsageError

_KEPT = 6  # candidates that wait for their exact score; with falling step sizes the last ones are the best.


@dataclass(frozen=True)
class StopCriteria:
    """When an attack checks for success and when it stops."""

    check_every: int = 10
    """Steps between two checks; where the loss is random, also between two candidates that are kept for scoring."""
    target_rate: float = 1.0
    """The success rate to reach, in `(0, 1]`."""
    max_seconds: float | None = None
    """Time for the whole attack; None for no limit."""

    def __post_init__(self) -> None:
        if self.check_every < 1:
            raise UsageError(f"expected a check every 1 or more steps, got {self.check_every}; try 10")
        if not 0 < self.target_rate <= 1:
            raise UsageError(f"expected a target rate above 0 and up to 1, got {self.target_rate:g}; try 1")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"expected more than 0 seconds, got {self.max_seconds:g}; try 60")


class AttackState:
    """The trace of an attack and its best candidate; candidates are 8-bit pictures within the budget.

    Where the loss is exact (all questions, no randomness), the loss of each step already ranks its candidate. Where it
    is random, a low loss may only be a lucky draw, so the candidates of the checks wait and are scored on all items
    once, at the end of a run that did not succeed.

    Args:
        objective: scores candidates.
        clean: the clean picture, `3 x H x W`.
        criteria: when to check and when to stop.
        success: returns the success rate of a candidate; None for no checks.
        progress: called with every step.
        exact: whether a step's loss is the same for the same pixels.
    """

    def __init__(
        self,
        objective: Objective,
        clean: Tensor,
        criteria: StopCriteria,
        success: Callable[[Tensor], float] | None,
        progress: Callable[[TraceStep], None] | None,
        *,
        exact: bool,
    ) -> None:
        self.started = time.perf_counter()
        self.trace: list[TraceStep] = []
        self.steps = 0
        self.rate: float | None = None
        self.diverged = False
        self._objective = objective
        self._criteria = criteria
        self._success = success
        self._progress = progress
        self._exact = exact
        self._best = clean
        self._best_loss = math.inf
        self._last = clean
        self._unscored: list[tuple[Tensor, float | None]] = [] if exact else [(clean, None)]
        self._zero_gradients = 0

    def record(self, candidate: Tensor, evaluation: LossAndGrad) -> None:
        """Add a step: the loss and gradient of a candidate.

        Raises:
            ModelError: the first loss or gradient is not finite. A later one sets `diverged`, which keeps the best
                candidate until then.
        """
        # In float32: the sum of a float16 gradient overflows at 65,504, which is no divergence. One number holds both
        # questions, whether every entry is finite and whether all are zero.
        size = float(torch.linalg.vector_norm(evaluation.gradient, ord=1, dtype=torch.float32))
        if not (math.isfinite(evaluation.loss) and math.isfinite(size)):
            if not self.trace:
                raise ModelError(
                    f"expected a finite loss and gradient, got loss {evaluation.loss} and gradient size {size}; "
                    "try the model in float32 or bfloat16"
                )
            self.diverged = True
            return
        # A gradient of exactly zero is a sign of a broken path (a detached processor, a saturated loss), not of a
        # minimum; it is counted and reported as a warning.
        self._zero_gradients += size == 0
        if self._exact:
            self._consider(candidate, None, evaluation.loss)
        self._last = candidate
        self.steps += 1
        self._append_step(TraceStep(self.steps, evaluation.loss, None))

    def check_due(self) -> bool:
        """Whether it is time for a check; never right at the start."""
        return self.steps % self._criteria.check_every == 0

    def check(self, candidate: Tensor) -> bool:
        """Check a candidate for success, or the best picture where losses are exact and that was not checked yet.

        Returns:
            Whether the target rate is reached; the checked picture is then the result.
        """
        # Invariant: `rate` is that of `_best`, or None where `_best` was not checked since it became the best.
        checked = self._best if self._exact and self.rate is None else candidate
        rate = None if self._success is None else float(self._success(checked))
        if rate is not None:
            self._append_step(TraceStep(self.steps, self.trace[-1].loss, rate), replace=True)
        if rate is not None and rate >= self._criteria.target_rate:
            # No loss is below minus infinity: what passed its check is never replaced by a lower loss.
            self._best, self._best_loss, self.rate = checked, -math.inf, rate
            return True
        if not self._exact:
            self._unscored.append((checked, rate))
            del self._unscored[1:-_KEPT]  # the first is the clean picture
        elif checked is self._best:
            self.rate = rate
        return False

    def finalize(self, candidate: Tensor) -> bool:
        """Choose the best picture at the end of a run without success, and check it; whether it succeeds after all.

        Where losses are random, only now the last candidates (and the clean picture) are scored on all items: an
        attack that succeeds never pays for that.
        """
        if self._exact:
            self._consider(candidate, None)
        elif self.check(candidate):
            return True
        for waiting, rate in self._unscored:
            self._consider(waiting, rate)
        self._unscored.clear()
        return self._exact and self.check(candidate)

    def out_of_time(self) -> bool:
        """Whether the time is spent."""
        limit = self._criteria.max_seconds
        return limit is not None and time.perf_counter() - self.started > limit

    def best(self) -> Tensor:
        """The first picture that passed its check, else the one with the lowest loss, else the last one."""
        # Plus infinity means that nothing was scored, as after running out of time with random losses.
        return self._last if math.isinf(self._best_loss) and self._best_loss > 0 else self._best

    def warnings(self, feasible: FeasibleSet) -> list[str]:
        """Reasons not to trust the result, in words."""
        warnings = []
        if self._zero_gradients:
            warnings.append(f"the gradient was exactly zero in {self._zero_gradients} of {self.steps} steps")
        if self.diverged:
            warnings.append(f"stopped after step {self.steps}: the loss or the gradient was no longer finite")
        losses = [step.loss for step in self.trace]
        if self._exact and len(losses) > 1 and min(losses[1:]) >= losses[0]:
            warnings.append("the loss never fell below that of the first step")
        if torch.equal(self.best(), feasible.clean):
            warnings.append("the picture is unchanged")
        if self._success is not None and (self.rate is None or self.rate < self._criteria.target_rate):
            warnings.append("no candidate reached the target rate in a check")
        return warnings

    def _consider(self, candidate: Tensor, rate: float | None, loss: float | None = None) -> None:
        """Keep a candidate if it is the best so far; without a loss it is scored on all items."""
        if loss is None:
            with torch.enable_grad():
                loss = self._objective.score(candidate)
        if loss < self._best_loss:
            self._best, self._best_loss, self.rate = candidate, loss, rate

    def _append_step(self, step: TraceStep, *, replace: bool = False) -> None:
        if replace:
            self.trace.pop()
        self.trace.append(step)
        if self._progress:
            self._progress(step)
