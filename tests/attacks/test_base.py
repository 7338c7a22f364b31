from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from equipoise.attacks.attack_state import ENOUGH_AFTER, StopCriteria
from equipoise.attacks.base import FIRST_STEPS, Attack, UpdateSteps
from equipoise.attacks.budgets import Budget, FeasibleSet
from equipoise.attacks.objectives import LossAndGrad
from equipoise.attacks.perturbation_result import TraceStep
from equipoise.attacks.solvers import Bim
from equipoise.errors import ModelError, UsageError
from equipoise.media.quantize import is_quantized
from tests.attacks.fakes import CLEAN, Bowl, reply, within

BUDGET = Budget("linf", 8 / 255)
BIM = Bim(BUDGET, steps=12)


@dataclass(frozen=True)
class UnboundedAttack(Attack):
    """Breaks every limit."""

    def update_steps(self, region: FeasibleSet, start: Tensor, random: Generator) -> UpdateSteps:
        while True:
            yield torch.randn(start.shape, generator=random) * 9


def test_a_rule_that_breaks_every_limit_still_gives_a_legal_picture() -> None:
    bowl = Bowl()
    result = UnboundedAttack(BUDGET, steps=6)(bowl, CLEAN)
    assert len(bowl.shown) == 7  # six evaluations, and the score of the last proposal
    for pixels in bowl.shown:
        assert is_quantized(pixels)
        assert within(BUDGET, pixels, CLEAN)
        assert 0 <= pixels.min() <= pixels.max() <= 1
    assert within(BUDGET, result.pixels, CLEAN)


def test_the_lowest_loss_is_the_result_not_the_last() -> None:
    bowl = Bowl(losses=(5.0, 4.0, 1.0, 3.0, 9.0, 2.0))
    result = replace(BIM, steps=5)(bowl, CLEAN)
    assert torch.equal(result.pixels, bowl.shown[2])
    assert [step.loss for step in result.trace] == [5.0, 4.0, 1.0, 3.0, 9.0]


def test_the_first_picture_that_passes_its_check_is_the_result() -> None:
    checked: list[Tensor] = []

    def success(pixels: Tensor) -> float:
        checked.append(pixels)
        return (0.25, 0.5, 0.75, 1.0)[len(checked) - 1]

    steps: list[TraceStep] = []
    result = BIM(Bowl(), CLEAN, success=success, stop=StopCriteria(2, target_rate=0.7), progress=steps.append)
    assert (result.stopped, result.rate, result.steps) == ("success", 0.75, 6)
    assert torch.equal(result.pixels, checked[-1])
    assert [step.rate for step in result.trace] == [None, 0.25, None, 0.5, None, 0.75]
    assert [step for step in steps if step.rate is not None] == [result.trace[1], result.trace[3], result.trace[5]]
    assert result.warnings == ()


def test_the_picture_that_was_checked_is_the_result_even_if_later_losses_were_higher() -> None:
    checked: list[Tensor] = []

    def success(pixels: Tensor) -> float:
        checked.append(pixels)
        return 1.0

    bowl = Bowl(losses=(5.0, 1.0, 3.0))
    result = BIM(bowl, CLEAN, success=success, stop=StopCriteria(3))
    assert (result.stopped, result.rate) == ("success", 1.0)
    assert torch.equal(checked[0], bowl.shown[1]), "where losses are exact, the best candidate so far is checked"
    assert torch.equal(result.pixels, checked[0])


def test_a_last_candidate_that_passes_after_all_is_the_result() -> None:
    checked: list[Tensor] = []

    def success(pixels: Tensor) -> float:
        checked.append(pixels)
        return 1.0

    attack = replace(BIM, steps=2, questions_per_step=2)
    result = attack(Bowl(), CLEAN, success=success, stop=StopCriteria(100))
    assert (result.stopped, result.rate) == ("success", 1.0)
    assert torch.equal(result.pixels, checked[0])


def test_a_picture_that_never_passes_is_a_warning_and_knows_its_rate() -> None:
    result = BIM(Bowl(), CLEAN, success=lambda pixels: 0.5, stop=StopCriteria(5))
    assert (result.stopped, result.rate, result.steps) == ("steps", 0.5, 12)
    assert any("target rate" in warning for warning in result.warnings)


def test_after_the_first_hundred_steps_a_lower_rate_is_enough() -> None:
    attack = replace(BIM, steps=200)
    rates: list[float] = []

    def success(pixels: Tensor) -> float:
        rates.append(0.96)
        return 0.96

    result = attack(Bowl(), CLEAN, success=success, stop=StopCriteria(10, enough_rate=0.95))
    assert (result.stopped, result.rate, result.steps, len(rates)) == ("success", 0.96, ENOUGH_AFTER, 10)
    assert result.warnings == ()
    whole = attack(Bowl(), CLEAN, success=success, stop=StopCriteria(10))
    assert (whole.stopped, whole.steps) == ("steps", 200)
    # A rate above the target asks for no more than the target.
    lower = attack(Bowl(), CLEAN, success=success, stop=StopCriteria(10, target_rate=0.9, enough_rate=0.97))
    assert (lower.stopped, lower.steps) == ("success", 10)


def test_a_check_hears_which_rate_is_wanted() -> None:
    wanted: list[float] = []

    class Check:
        def __call__(self, pixels: Tensor) -> float:
            raise AssertionError("the rate is said")

        def with_target(self, pixels: Tensor, target_rate: float) -> float:
            wanted.append(target_rate)
            return 0.5

    replace(BIM, steps=120)(Bowl(), CLEAN, success=Check(), stop=StopCriteria(40, enough_rate=0.95))
    assert wanted[:2] == [1.0, 1.0]
    assert set(wanted[2:]) == {0.95}


def test_with_random_looks_candidates_are_scored_only_when_none_succeeds() -> None:
    attack = replace(BIM, steps=30, questions_per_step=2)
    bowl = Bowl()
    result = attack(bowl, CLEAN, success=lambda pixels: len(bowl.shown) / 20, stop=StopCriteria(4))
    assert (result.stopped, len(bowl.shown), result.rate) == ("success", 20, 1.0)
    bowl = Bowl(losses=(*[1.0] * 30, 9.0, 4.0, 2.0, 3.0, 5.0, 6.0, 7.0))
    rates = iter((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    result = attack(bowl, CLEAN, success=lambda pixels: next(rates), stop=StopCriteria(4))
    # Scored are the clean picture, the last six candidates and the best of the older ones; the highest rate decides.
    assert (result.stopped, len(bowl.shown), result.rate) == ("steps", 38, 0.7)
    assert (result.recipe["chosen_by"], torch.equal(result.pixels, bowl.shown[29])) == ("rate", True)


def test_the_time_budget_ends_a_run_with_the_best_so_far() -> None:
    bowl = Bowl(wait=0.02)
    result = replace(BIM, steps=500)(bowl, CLEAN, stop=StopCriteria(max_seconds=0.15))
    assert result.stopped == "time"
    assert 1 <= result.steps < 20
    assert result.seconds < 1
    sampled = replace(BIM, steps=500, questions_per_step=2)
    few = sampled(Bowl(wait=0.02), CLEAN, stop=StopCriteria(400, max_seconds=0.15))
    assert few.linf > 0, "without an exact score the last picture is better than none"


def test_a_run_ends_when_the_loss_stays_low() -> None:
    bowl = Bowl(losses=(1.0, *[1e-4] * 30))
    result = replace(BIM, steps=100, converged_steps=4)(bowl, CLEAN)
    assert (result.stopped, result.steps) == ("converged", 5)


def test_a_loss_that_is_not_finite_at_the_start_is_an_error() -> None:
    for bowl in (Bowl(losses=(math.nan,)), Bowl(losses=(math.inf,)), Bowl(scale=math.inf)):
        with pytest.raises(ModelError, match="finite"):
            BIM(bowl, CLEAN)


def test_a_loss_that_is_not_finite_later_ends_the_run_with_a_warning() -> None:
    bowl = Bowl(losses=(3.0, 2.0, math.nan))
    result = BIM(bowl, CLEAN)
    assert (result.stopped, result.steps) == ("diverged", 2)
    assert torch.equal(result.pixels, bowl.shown[1])
    assert any("no longer finite" in warning for warning in result.warnings)


def test_a_flat_objective_is_doubted() -> None:
    result = BIM(Bowl(scale=0.0), CLEAN)
    assert any("exactly zero in 12 of 12" in warning for warning in result.warnings)
    assert any("never fell" in warning for warning in result.warnings)
    assert any("unchanged" in warning for warning in result.warnings)


def test_restarts_add_up_and_the_best_of_all_wins() -> None:
    bowl = Bowl(losses=(5.0, 4.0, 4.5, 3.0, 0.5, 1.0))
    result = replace(BIM, steps=2, restarts=2)(bowl, CLEAN)
    assert (result.steps, len(bowl.shown)) == (4, 6)
    assert torch.equal(result.pixels, bowl.shown[4])
    assert not torch.equal(bowl.shown[3], CLEAN), "a restart begins elsewhere"


def test_question_subsets_are_seeded_and_distinct() -> None:
    subsets: list[list[int]] = []

    @dataclass(frozen=True)
    class Watching(Bowl):
        def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
            subsets.append(list(items))
            return super().__call__(pixels, items, random)

    attack = replace(BIM, steps=6, questions_per_step=3)
    attack(Watching(), CLEAN, stop=StopCriteria(100))
    first = subsets[:6]
    assert all(len(set(items)) == 3 for items in first)
    assert len(set(map(tuple, first))) > 1
    assert subsets[6:] == [[0, 1, 2, 3]] * 2, "the clean and the last picture are ranked by all questions"
    subsets.clear()
    attack(Watching(), CLEAN, stop=StopCriteria(100))
    assert subsets[:6] == first


@pytest.mark.parametrize(
    ("pixels", "hint"),
    [
        (CLEAN * 255, r"\[0, 1\]"),
        (CLEAN - 0.5, r"\[0, 1\]"),
        (CLEAN * math.nan, r"\[0, 1\]"),
        (CLEAN[None], "3 x height x width"),
        (CLEAN[:1], "3 x height x width"),
        (CLEAN[:, :0], "3 x height x width"),
        ((CLEAN * 255).byte(), "float"),
        ("a.png", "3 x height x width"),
        (CLEAN * 0.999, "8-bit"),
    ],
)
def test_what_is_not_a_picture_is_refused(pixels: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        BIM(Bowl(), pixels)


@pytest.mark.parametrize(
    "limits", [{"check_every": 0}, {"target_rate": 0.0}, {"target_rate": 2}, {"max_seconds": 0}, {"enough_rate": 1.5}]
)
def test_senseless_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        StopCriteria(**limits)


def test_an_objective_that_fails_leaves_no_state_behind() -> None:
    objective = reply()
    with pytest.raises(RuntimeError, match="stop"):
        BIM(objective, CLEAN, success=lambda pixels: (_ for _ in ()).throw(RuntimeError("stop")), stop=StopCriteria(1))
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in objective.targets[0].network.parameters())  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Counted(Bowl):
    """Also writes down how many items each step evaluates."""

    counts: list[int] = field(default_factory=list)

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        self.counts.append(len(items))
        return super().__call__(pixels, items, random)


def test_the_first_steps_evaluate_few_questions() -> None:
    attack = replace(BIM, steps=FIRST_STEPS + 2, questions_per_step=3, questions_first=1)
    rising = Counted()
    attack(rising, CLEAN)
    assert rising.counts[: FIRST_STEPS + 2] == [1] * FIRST_STEPS + [3] * 2
    # Never more than later.
    many = Counted()
    replace(attack, questions_first=9)(many, CLEAN)
    assert many.counts[: FIRST_STEPS + 2] == [3] * (FIRST_STEPS + 2)
    # Random draws make a gradient noisy enough.
    drawn = Counted(drawn=True)
    attack(drawn, CLEAN)
    assert set(drawn.counts[: FIRST_STEPS + 2]) == {3}
    # Where all questions are evaluated, they are from the first step on.
    whole = Counted(losses=(1.0,) * 30)
    replace(attack, questions_per_step=None)(whole, CLEAN)
    assert set(whole.counts) == {4}
