"""The record of one attack: what was seen, what was best, when to check, what to warning."""

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
    """When to check and when to stop."""

    check_every: int
    """Steps between two checks."""
    target_rate: float
    """The success rate to reach, in `(0, 1]`."""
    max_seconds: float | None
    """Time for the whole attack; None for no limit."""

    def __post_init__(self) -> None:
        if self.check_every < 1:
            raise UsageError(f"expected a check every 1 or more steps, got {self.check_every}; try 10")
        if not 0 < self.target_rate <= 1:
            raise UsageError(f"expected a target rate above 0 and up to 1, got {self.target_rate:g}; try 1")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"expected more than 0 seconds, got {self.max_seconds:g}; try 60")


class AttackState:
    """What one attack has seen so far; candidates are legal pictures."""

    def __init__(
        self,
        objective: Objective,
        clean: Tensor,
        limits: StopCriteria,
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
        self._limits = limits
        self._success = success
        self._progress = progress
        self._exact = exact
        self._best = clean
        self._best_loss = math.inf
        self._last = clean
        self._waiting: list[tuple[Tensor, float | None]] = [] if exact else [(clean, None)]
        self._flat = 0

    def record(self, legal: Tensor, slope: LossAndGrad) -> None:
        """Take in the slope at a legal picture.

        Raises:
            ModelError: the first loss or gradient is not finite. A later one sets `broken`, which keeps what was
                found until then.
        """
        size = float(torch.linalg.vector_norm(slope.gradient, ord=1, dtype=torch.float32))
        if not (math.isfinite(slope.loss) and math.isfinite(size)):
            if not self.trace:
                raise ModelError(
                    f"expected a finite loss and gradient, got loss {slope.loss} and gradient size {size}; "
                    "try the model in float32 or bfloat16"
                )
            self.diverged = True
            return
        self._flat += size == 0
        if self._exact:
            self._consider(legal, None, slope.loss)
        self._last = legal
        self.steps += 1
        self._append_step(TraceStep(self.steps, slope.loss, None))

    def check_due(self) -> bool:
        """Whether it is time for a check; never right at the start."""
        return self.steps % self._limits.check_every == 0

    def check(self, legal: Tensor) -> bool:
        """Ask about a candidate, or about the best picture where that is known and was not asked about yet.

        Returns:
            Whether the target rate is reached; the picture asked about is then the result.
        """
        asked = self._best if self._exact and self.rate is None else legal
        rate = None if self._success is None else float(self._success(asked))
        if rate is not None:
            self._append_step(TraceStep(self.steps, self.trace[-1].loss, rate), replace=True)
        if rate is not None and rate >= self._limits.target_rate:
            self._best, self._best_loss, self.rate = asked, -math.inf, rate
            return True
        if not self._exact:
            self._waiting.append((asked, rate))
            del self._waiting[1:-_KEPT]  # the first is the clean picture
        elif asked is self._best:
            self.rate = rate
        return False

    def finalize(self, legal: Tensor) -> bool:
        """Choose the best at the end of a run without success, and ask about it; whether it succeeds after all.

        Where looks are random, only now the last candidates (and the clean picture) are scored on all items: an
        attack that succeeds never pays for that.
        """
        if self._exact:
            self._consider(legal, None)
        elif self.check(legal):
            return True
        for candidate, rate in self._waiting:
            self._consider(candidate, rate)
        self._waiting.clear()
        return self._exact and self.check(legal)

    def out_of_time(self) -> bool:
        """Whether the time is spent."""
        limit = self._limits.max_seconds
        return limit is not None and time.perf_counter() - self.started > limit

    def best(self) -> Tensor:
        """The first picture that passed its check, else the one with the lowest loss, else the last one."""
        return self._last if math.isinf(self._best_loss) else self._best

    def warnings(self, region: FeasibleSet) -> list[str]:
        """Reasons not to trust the result, in words."""
        warnings = []
        if self._flat:
            warnings.append(f"the gradient was exactly zero in {self._flat} of {self.steps} steps")
        if self.diverged:
            warnings.append(f"stopped after step {self.steps}: the loss or the gradient was no longer finite")
        losses = [step.loss for step in self.trace]
        if self._exact and len(losses) > 1 and min(losses[1:]) >= losses[0]:
            warnings.append("the loss never fell below that of the first step")
        if torch.equal(self.best(), region.clean):
            warnings.append("the picture is unchanged")
        if self._success is not None and (self.rate is None or self.rate < self._limits.target_rate):
            warnings.append("no candidate reached the target rate in a check")
        return warnings

    def _consider(self, legal: Tensor, rate: float | None, loss: float | None = None) -> None:
        if loss is None:
            with torch.enable_grad():
                loss = self._objective.score(legal)
        if loss < self._best_loss:
            self._best, self._best_loss, self.rate = legal, loss, rate

    def _append_step(self, step: TraceStep, *, replace: bool = False) -> None:
        if replace:
            self.trace.pop()
        self.trace.append(step)
        if self._progress:
            self._progress(step)
