"""What an attack remembers: the best candidate by exact or late scores, checks at their time, reasons for doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from equipoise.attacks.attack_state import AttackState, StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import LossAndGrad, Objective

CLEAN = torch.zeros(3, 2, 2)


class Level(Objective):
    """The score of a candidate is its first value; how often it was scored is counted."""

    def __init__(self) -> None:
        self.scored = 0

    @property
    def size(self) -> int:
        return 1

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        self.scored += 1
        return LossAndGrad(float(pixels[0, 0, 0]), torch.ones_like(pixels))

    def describe(self) -> dict[str, Any]:
        return {"kind": "level"}


def candidate(level: int) -> Tensor:
    pixels = CLEAN.clone()
    pixels[0, 0, 0] = level / 255
    return pixels


def record(state: AttackState, level: int, loss: float) -> Tensor:
    pixels = candidate(level)
    state.record(pixels, LossAndGrad(loss, torch.ones_like(pixels)))
    return pixels


@settings(max_examples=60, deadline=None)
@given(losses=st.lists(st.integers(0, 50), min_size=1, max_size=12))
def test_with_exact_losses_the_first_of_the_lowest_is_best_and_nothing_is_scored_again(losses: list[int]) -> None:
    objective = Level()
    state = AttackState(objective, CLEAN, StopCriteria(), None, None, exact=True)
    candidates = [record(state, level, loss / 255) for level, loss in enumerate(losses, start=60)]
    assert torch.equal(state.best(), candidates[losses.index(min(losses))])
    assert objective.scored == 0
    assert [step.loss for step in state.trace] == [loss / 255 for loss in losses]


@settings(max_examples=60, deadline=None)
@given(levels=st.lists(st.integers(1, 255), min_size=1, max_size=5, unique=True), noise=st.integers(0, 99))
def test_with_random_losses_the_candidates_of_the_checks_are_scored_at_the_end(levels: list[int], noise: int) -> None:
    objective = Level()
    state = AttackState(objective, torch.ones(3, 2, 2), StopCriteria(1), lambda pixels: 0.0, None, exact=False)
    for number, level in enumerate(levels):
        pixels = record(state, level, loss=float((noise * number) % 7))  # says nothing of the candidate
        assert not state.check(pixels)
    assert objective.scored == 0
    assert not state.finalize(pixels)
    assert torch.equal(state.best(), candidate(min(levels)))


def test_checks_are_due_at_every_nth_step_and_rates_stand_in_the_trace() -> None:
    rates = iter((0.25, 0.75))
    state = AttackState(Level(), CLEAN, StopCriteria(2), lambda pixels: next(rates), None, exact=False)
    due = []
    for level in range(1, 6):
        pixels = record(state, level, 1.0)
        due.append(state.check_due())
        if due[-1]:
            state.check(pixels)
    assert due == [False, True, False, True, False]
    assert [step.rate for step in state.trace] == [None, 0.25, None, 0.75, None]


def test_nothing_recorded_leaves_the_clean_picture_and_says_so() -> None:
    state = AttackState(Level(), CLEAN, StopCriteria(), None, None, exact=True)
    assert torch.equal(state.best(), CLEAN)
    assert state.warnings(Budget("linf", 8 / 255).centered_at(CLEAN)) == ["the picture is unchanged"]


@pytest.mark.parametrize("exact", [True, False])
def test_a_checked_success_is_never_replaced(exact: bool) -> None:
    state = AttackState(Level(), CLEAN, StopCriteria(1), lambda pixels: 1.0, None, exact=exact)
    passed = record(state, 90, 5.0)
    assert state.check(passed)
    record(state, 10, 0.0)
    assert torch.equal(state.best(), passed)
    assert state.rate == 1.0
