"""The state of one attack while it runs: its trace, its best candidate, when to check and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from equipoise.attacks.budgets import FeasibleSet
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perturbation_result import UNCHANGED, UNSUCCESSFUL, ChoiceRule, TraceStep
from equipoise.errors import ModelError, UsageError

_KEPT: Final = 6
"""Candidates that wait for their exact score; with falling step sizes the last ones are the best."""
_FINALISTS: Final = 3
"""Candidates of a run without success that the final check asks every question about."""
EARLIEST: Final = 4
"""Steps before the first early check, which costs as much as several of the first steps."""
ENOUGH_AFTER: Final = 100
"""Steps after which `StopCriteria.enough_rate` is enough. On photos, pictures that pass later than that exist beside
pictures of which one question in fifty resists for good."""
EARLY_LOSS: Final = 0.3
"""Nats per token below which a check before its time may pass."""
EARLY_SHARE: Final = 0.6
"""What the loss must have fallen to, as a share of that at the last check, for a check before its time."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A candidate that may become the result."""

    pixels: Tensor
    rate: float | None
    """Success rate in its own check; None where it was not checked."""
    loss: float = math.inf
    """Exact loss; infinite where it was not scored yet."""

    @property
    def rank(self) -> tuple[float, float]:
        """Higher is better: by checked success rate first, by loss where that is the same."""
        # -1: a candidate that was never checked ranks behind all that were, also behind those with a rate of 0.
        return (-1.0 if self.rate is None else self.rate, -self.loss)


@dataclass(frozen=True)
class StopCriteria:
    """When an attack checks for success and when it stops."""

    check_every: int = 10
    """Steps between two checks; where the loss is random, also between two candidates that are kept for scoring."""
    target_rate: float = 1.0
    """The success rate to reach, in `(0, 1]`."""
    max_seconds: float | None = None
    """Time for the whole attack; None for no limit."""
    early: bool = False
    """Whether a check is also due when the loss has fallen far since the last one."""
    enough_rate: float | None = None
    """The success rate that is enough after `ENOUGH_AFTER` steps, where it is below the target; None for the target."""

    def __post_init__(self) -> None:
        if self.check_every < 1:
            raise UsageError(f"expected a check every 1 or more steps, got {self.check_every}; try 10")
        if not 0 < self.target_rate <= 1:
            raise UsageError(f"expected a target rate above 0 and up to 1, got {self.target_rate:g}; try 1")
        if self.enough_rate is not None and not 0 < self.enough_rate <= 1:
            raise UsageError(f"expected an enough_rate above 0 and up to 1, got {self.enough_rate:g}; try 0.95")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"expected more than 0 seconds, got {self.max_seconds:g}; try 60")


class AttackState:
    """The trace of an attack and its best candidate; candidates are 8-bit pictures within the budget.

    The first candidate that passes its check is the result. Without one, candidates are ranked by checked success rate,
    then by loss, and a final check that asks every question decides among the best few. Where the loss is exact (all
    questions, no randomness), each step's loss ranks its candidate as well. Where it is random, a low loss may only be
    a lucky draw, so the candidates of the checks wait and are scored on all items at the end.

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
        self.diverged = False
        self._objective = objective
        self._criteria = criteria
        self._success = success
        self._progress = progress
        self._exact = exact
        self.chosen_by: ChoiceRule = "loss"
        """Which rule chose the result."""
        self._version = objective.version
        self._chosen: _Waiting | None = None
        self._start: list[_Waiting] = [] if exact else [_Waiting(clean, None)]
        self._last = clean
        self._lowest = _Waiting(clean, None)
        """Where losses are exact, the candidate with the lowest."""
        self._waiting = list(self._start)
        self._loss_at_check = math.inf
        self._checked_step = 0
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
            self._renew()
            if evaluation.loss < self._lowest.loss:
                self._lowest = _Waiting(candidate, None, evaluation.loss)
        self._last = candidate
        self.steps += 1
        self._append_step(TraceStep(self.steps, evaluation.loss, None))

    def check_due(self) -> bool:
        """Whether it is time for a check; never right at the start."""
        if self.steps % self._criteria.check_every == 0:
            return True
        loss = self.trace[-1].loss
        # A check decodes replies, which costs more than a step: so not after every small gain, nor twice in a row.
        fell = loss < min(EARLY_LOSS, EARLY_SHARE * self._loss_at_check)
        return self._criteria.early and fell and self.steps > max(self._checked_step + 1, EARLIEST)

    @property
    def just_checked(self) -> bool:
        """Whether the last step was checked."""
        return self.steps > 0 and self._checked_step == self.steps

    @property
    def passed(self) -> bool:
        """Whether a picture of this start, or of one before, has passed a check of all questions."""
        return self._chosen is not None and self.chosen_by == "check"

    def check(self, candidate: Tensor, *, brief: bool = False) -> bool:
        """Check a candidate for success, or the one of lowest loss where losses are exact and it was not checked yet.

        Args:
            candidate: the picture.
            brief: a few questions are enough, if the check can ask so few.

        Returns:
            Whether the target rate is reached, and the checked picture is the result. After a brief check, whether the
            target may be reached: the picture is to be checked again, with all questions.
        """
        lowest = self._exact and self._lowest.rate is None and not math.isinf(self._lowest.loss)
        checked = self._lowest if lowest else _Waiting(candidate, None)
        self._loss_at_check, self._checked_step = self.trace[-1].loss, self.steps
        few = getattr(self._success, "brief", None) if brief else None
        rate, may_pass = None, False
        if few is not None:
            rate, may_pass = few(checked.pixels, self._wanted)
        elif self._success is not None:
            rate = self._rate_of(checked.pixels)
        checked = replace(checked, rate=rate)
        if rate is not None:
            self._append_step(TraceStep(self.steps, self.trace[-1].loss, rate), replace=True)
            if few is None and self._pass(checked):
                return True
        if lowest:
            self._lowest = checked
        if not self._exact or rate is not None:
            self._waiting.append(checked)
            self._forget()
        self._compete(checked)
        return may_pass

    def _compete(self, checked: _Waiting) -> None:
        """Let a candidate replace what an earlier start chose without success, should the time end this start."""
        if self._chosen is None or self.out_of_time():
            return
        # The check of a random model gives its lowest draw, which says little about the mean over draws.
        if not self._objective.is_random and checked.rank[0] <= self._chosen.rank[0]:
            return
        # A check stops at the first questions that put the target out of reach: only rates over all can be compared.
        in_full = getattr(self._success, "in_full", None)
        whole = checked if in_full is None else replace(checked, rate=float(in_full(checked.pixels)))
        if whole.rank[0] > self._chosen.rank[0]:
            self._chosen, self.chosen_by = whole, "rate"

    def finalize(self, candidate: Tensor) -> bool:
        """Choose the result of a run without success, by a final check; whether one succeeds after all.

        Losses of candidates are scored on all items only now: an attack that succeeds never pays for that. Where the
        time is spent nothing more is computed, and the best of what is known is the result.
        """
        if self.out_of_time():
            return False
        self._renew()
        if self._exact:
            loss = self._score(candidate)
            if loss < self._lowest.loss:
                self._lowest = _Waiting(candidate, None, loss)
        if (not self._exact or self._lowest.rate is None) and self.check(candidate):
            return True
        self._renew()
        # Twice the same picture would ask the same questions twice.
        scored = [*self._waiting, *([self._lowest] if math.isfinite(self._lowest.loss) else [])]
        distinct = {id(waiting.pixels): waiting for waiting in scored}.values()
        scored = [
            w if math.isfinite(w.loss) or self.out_of_time() else replace(w, loss=self._score(w.pixels))
            for w in distinct
        ]
        finalists = sorted(scored, key=lambda waiting: waiting.rank, reverse=True)[:_FINALISTS]
        # A check during the run stops at the first questions that put the target out of reach, so that two rates may be
        # of different questions. Only rates over all questions can be compared.
        in_full = getattr(self._success, "in_full", None)
        comparable = True
        if in_full is not None and len(finalists) > 1:
            asked_all = []
            for waiting in finalists:
                if self.out_of_time():
                    break
                asked_all.append(replace(waiting, rate=float(in_full(waiting.pixels))))
                if self._passes_in_full(asked_all[-1]):
                    return True
            comparable = len(asked_all) == len(finalists)
            if comparable:
                finalists = sorted(asked_all, key=lambda waiting: waiting.rank, reverse=True)
        best = finalists[0]
        decided = comparable and best.rate is not None and all(best.rate != other.rate for other in finalists[1:])
        self._chosen, self.chosen_by = best, "rate" if decided else "loss"
        # Another start competes with what this one has reached.
        self._waiting = [*self._start, best]
        return False

    def _passes_in_full(self, asked_all: _Waiting) -> bool:
        """Make a candidate with the rate of all questions the result, if it reaches the target."""
        if asked_all.rate is None or asked_all.rate < self._wanted:
            return False
        if self._objective.is_random:
            # The mean over draws may reach it where one draw does not, and a check has to pass all of them.
            asked_all = replace(asked_all, rate=self._rate_of(asked_all.pixels))
        return self._pass(asked_all)

    @property
    def rate(self) -> float | None:
        """Success rate of `best()` in its own check; None where that was not checked."""
        best = self._best
        return None if best is None else best.rate

    @property
    def _wanted(self) -> float:
        """The success rate at which the attack is done."""
        target, enough = self._criteria.target_rate, self._criteria.enough_rate
        return target if enough is None or self.steps < ENOUGH_AFTER else min(target, enough)

    def _rate_of(self, pixels: Tensor) -> float:
        """The checked success rate of a candidate; above what is wanted it is exact."""
        assert self._success is not None
        # A check that is told the rate that is wanted stops asking as soon as it is out of reach.
        with_target = getattr(self._success, "with_target", None)
        return float(self._success(pixels) if with_target is None else with_target(pixels, self._wanted))

    def out_of_time(self) -> bool:
        """Whether the time is spent."""
        limit = self._criteria.max_seconds
        return limit is not None and time.perf_counter() - self.started > limit

    def best(self) -> Tensor:
        """The picture that passed its check, else what `finalize` chose, else the best rate, else the lowest loss."""
        return self._last if self._best is None else self._best.pixels

    @property
    def _best(self) -> _Waiting | None:
        if self._chosen is not None:
            return self._chosen
        # The run was cut short by its time, or not begun. A rate of zero says less than a low loss.
        # `if waiting.rate` leaves out both None (not checked) and 0.
        checked = max((waiting for waiting in self._waiting if waiting.rate), key=lambda w: w.rank, default=None)
        return checked if checked is not None or math.isinf(self._lowest.loss) else self._lowest

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
            warnings.append(UNCHANGED)
        if self._success is not None and (self.rate is None or self.rate < self._wanted):
            warnings.append(UNSUCCESSFUL)
        return warnings

    def _pass(self, checked: _Waiting) -> bool:
        """Make a candidate the result if its rate reaches the target."""
        if checked.rate is None or checked.rate < self._wanted:
            return False
        passed = self._chosen if self.chosen_by == "check" else None
        # Of two that pass the later one, unless fewer questions are refused.
        if passed is None or passed.rate is None or passed.rate <= checked.rate:
            self._chosen, self.chosen_by = checked, "check"
        return True

    def _forget(self) -> None:
        """Keep the clean picture where losses are random, the last candidates, and the one of the best rate."""
        first = len(self._start)
        old = self._waiting[first:-_KEPT]
        if old:
            best = max(old, key=lambda waiting: waiting.rank)
            self._waiting[first:-_KEPT] = [best] if best.rate else []

    def _renew(self) -> None:
        """Score the candidate of lowest loss again where the objective asks for something else since."""
        if self._objective.version == self._version:
            return
        self._version = self._objective.version
        if not math.isinf(self._lowest.loss):
            self._lowest = replace(self._lowest, loss=self._score(self._lowest.pixels))
        self._waiting = [replace(waiting, loss=math.inf) for waiting in self._waiting]

    def _score(self, pixels: Tensor) -> float:
        with torch.enable_grad():
            return self._objective.score(pixels)

    def _append_step(self, step: TraceStep, *, replace: bool = False) -> None:
        if replace:
            self.trace.pop()
        self.trace.append(step)
        if self._progress:
            self._progress(step)
