"""After a check that passes an attack settles, and only a check of all questions ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.base import LONGEST_SETTLE, SETTLED_LOSS
from equipoise.attacks.budgets import Budget
from equipoise.attacks.solvers import Bim
from tests.attacks.fakes import CLEAN, Bowl

BIM = Bim(Budget("linf", 8 / 255), steps=12)


@pytest.mark.parametrize("later", [1.0, 0.5])
def test_some_steps_after_the_first_success_count_where_they_pass_too(later: float) -> None:
    checked: list[Tensor] = []

    def success(pixels: Tensor) -> float:
        checked.append(pixels.clone())
        return 1.0 if len(checked) == 1 else later

    low = tuple(SETTLED_LOSS / (2 + step) for step in range(12))
    result = replace(BIM, settle=3)(Bowl(losses=low), CLEAN, success=success, stop=StopCriteria(2, early=False))
    assert (result.stopped, result.steps, len(checked)) == ("success", 5, 2)
    assert torch.equal(result.pixels, checked[1] if later == 1.0 else checked[0])
    assert not torch.equal(checked[0], checked[1])
    assert result.rate == 1.0
    # Too few steps are left, and the first that passed is the result.
    checked.clear()
    short = replace(BIM, settle=300)(Bowl(losses=low), CLEAN, success=success, stop=StopCriteria(2, early=False))
    assert (short.stopped, len(checked)) == ("success", 1)
    assert torch.equal(short.pixels, checked[0])


@pytest.mark.parametrize(("falls_at", "steps"), [(4, 5), (7, 7), (99, 2 + 3 * LONGEST_SETTLE)])
def test_a_picture_that_passed_settles_until_its_loss_is_low_or_long_enough(falls_at: int, steps: int) -> None:
    losses = tuple(1.0 if step < falls_at else SETTLED_LOSS / 2 for step in range(1, 31))
    attack = replace(BIM, steps=30, settle=3)
    result = attack(Bowl(losses=losses), CLEAN, success=lambda pixels: 1.0, stop=StopCriteria(2, early=False))
    assert (result.stopped, result.steps, result.rate) == ("success", steps, 1.0)


def test_one_low_loss_of_random_draws_is_not_settled() -> None:
    losses = tuple(1.0 if step in (1, 2, 3, 4, 6, 8) else SETTLED_LOSS / 2 for step in range(1, 31))
    attack, stop = replace(BIM, steps=30, settle=3), StopCriteria(2, early=False)
    for bowl, steps in ((Bowl(losses=losses), 5), (Bowl(losses=losses, drawn=True), 11)):
        result = attack(bowl, CLEAN, success=lambda pixels: 1.0, stop=stop)
        assert (result.stopped, result.steps) == ("success", steps)


class BriefThenWhole:
    """A check with a brief one; both give the rates they are given, one after the other."""

    def __init__(self, brief: Sequence[tuple[float, bool]], whole: Sequence[float]) -> None:
        self.rates, self.whole = list(brief), list(whole)
        self.calls: list[str] = []

    def __call__(self, pixels: Tensor) -> float:
        self.calls.append("whole")
        return self.whole.pop(0)

    def brief(self, pixels: Tensor, target_rate: float) -> tuple[float, bool]:
        self.calls.append("brief")
        return self.rates.pop(0)


def test_only_a_check_of_all_questions_ends_an_attack() -> None:
    low = tuple(SETTLED_LOSS / (2 + step) for step in range(12))
    # The first brief check fails, the second passes and all questions do not, the third passes and they do.
    check = BriefThenWhole([(0.5, False), (1.0, True), (1.0, True)], [0.9, 1.0])
    attack, stop = replace(BIM, settle=1), StopCriteria(2, early=False)
    result = attack(Bowl(losses=low), CLEAN, success=check, stop=stop)
    assert check.calls == ["brief", "brief", "whole", "brief", "whole"]
    assert (result.stopped, result.steps, result.rate) == ("success", 7, 1.0)
    assert [step.rate for step in result.trace] == [None, 0.5, None, 1.0, 0.9, 1.0, 1.0]


def test_a_brief_check_that_passed_is_no_success_when_the_steps_or_the_time_end() -> None:
    low = tuple(SETTLED_LOSS / (2 + step) for step in range(12))
    for bowl, stop in (
        (Bowl(losses=low), StopCriteria(2, early=False)),
        (Bowl(losses=low, wait=0.02), StopCriteria(2, early=False, max_seconds=0.1)),
    ):
        check = BriefThenWhole([(1.0, True)] * 6, [0.5] * 9)
        result = replace(BIM, settle=300)(bowl, CLEAN, success=check, stop=stop)
        assert result.stopped == ("steps" if stop.max_seconds is None else "time")


def test_without_steps_after_the_first_success_every_check_is_of_all_questions() -> None:
    check = BriefThenWhole([], [0.5, 1.0])
    assert BIM(Bowl(), CLEAN, success=check, stop=StopCriteria(2, early=False)).steps == 4
    assert check.calls == ["whole", "whole"]
