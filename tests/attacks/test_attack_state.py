"""What an attack remembers: the best candidate by exact or late scores, checks at their time, reasons for doubt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from equipoise.attacks.attack_state import EARLIEST, AttackState, StopCriteria
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


class Shifting(Level):
    """Asks for something else once it is told to: scores are then the other way round."""

    changed = False

    @property
    def version(self) -> int:
        return int(self.changed)

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        plain = super().__call__(pixels, items, random)
        return LossAndGrad(1 - plain.loss, plain.gradient) if self.changed else plain


class Rates:
    """A check with a rate for each candidate; in full it may be another one."""

    def __init__(self, quick: dict[int, float], full: dict[int, float]) -> None:
        self.quick, self.full = quick, full
        self.in_full_of: list[int] = []

    def __call__(self, pixels: Tensor) -> float:
        return self.quick[round(float(pixels[0, 0, 0]) * 255)]

    def in_full(self, pixels: Tensor) -> float:
        level = round(float(pixels[0, 0, 0]) * 255)
        self.in_full_of.append(level)
        return self.full.get(level, 0.0)


@pytest.mark.parametrize("exact", [True, False])
def test_a_higher_checked_rate_goes_before_a_lower_loss(exact: bool) -> None:
    rates = Rates({90: 0.6, 80: 0.1, 70: 0.2}, {90: 0.6, 80: 0.1, 70: 0.2})
    state = AttackState(Level(), CLEAN, StopCriteria(1), rates, None, exact=exact)
    for level in (90, 80, 70):
        assert not state.check(record(state, level, level / 255))
    assert not state.finalize(candidate(70))
    assert torch.equal(state.best(), candidate(90))
    assert (state.rate, state.chosen_by) == (0.6, "rate")
    assert 1 < len(rates.in_full_of) <= 3


def test_the_final_check_decides_over_rates_of_a_few_questions() -> None:
    rates = Rates({90: 0.9, 80: 0.3}, {90: 0.2, 80: 0.3})
    state = AttackState(Level(), CLEAN, StopCriteria(1), rates, None, exact=True)
    for level in (90, 80):
        state.check(record(state, level, level / 255))
    state.finalize(candidate(80))
    assert torch.equal(state.best(), candidate(80))
    assert (state.rate, state.chosen_by) == (0.3, "rate")


def test_among_equal_rates_the_lower_loss_is_chosen_and_the_record_says_so() -> None:
    rates = Rates(dict.fromkeys((90, 80, 70), 0.0), {})
    state = AttackState(Level(), CLEAN, StopCriteria(1), rates, None, exact=False)
    for level in (90, 70, 80):
        state.check(record(state, level, 1.0))
    state.finalize(candidate(80))
    assert torch.equal(state.best(), candidate(70)) or torch.equal(state.best(), CLEAN)
    assert state.chosen_by == "loss"


def test_a_candidate_that_passes_the_final_check_after_all_is_a_success() -> None:
    rates = Rates({90: 0.9, 80: 0.1}, {90: 1.0, 80: 0.1})
    state = AttackState(Level(), CLEAN, StopCriteria(1), rates, None, exact=True)
    for level in (90, 80):
        state.check(record(state, level, level / 255))
    assert state.finalize(candidate(80))
    assert torch.equal(state.best(), candidate(90))
    assert (state.rate, state.chosen_by) == (1.0, "check")


def test_losses_of_another_version_are_not_compared() -> None:
    objective = Shifting()
    state = AttackState(objective, CLEAN, StopCriteria(), None, None, exact=True)
    low, high = record(state, 10, 10 / 255), candidate(200)
    objective.changed = True
    state.record(high, objective(high, [0], Generator()))
    assert torch.equal(state.best(), high)
    assert not torch.equal(low, high)


def test_a_check_is_due_early_once_the_loss_has_fallen_far() -> None:
    for early in (True, False):
        state = AttackState(Level(), CLEAN, StopCriteria(50, early=early), lambda pixels: 0.0, None, exact=False)
        # Not in the first steps, however low the loss: what they reach does not last for other questions.
        for _ in range(EARLIEST - 2):
            record(state, 60, 0.1)
            assert not state.check_due()
        due = []
        for loss in (5.0, 2.0, 0.35, 0.28, 0.2, 0.15, 0.12, 0.05, 0.04):
            pixels = record(state, 60, loss)
            due.append(state.check_due())
            if due[-1]:
                state.check(pixels)
        assert due == [False, False, False, early, False, early, False, early, False]


@pytest.mark.parametrize(("after", "checks"), [(0, 0), (1, 1)])
def test_the_final_check_begins_nothing_once_the_time_is_spent(after: int, checks: int) -> None:
    rates = Rates({90: 0.6, 80: 0.1, 70: 0.2}, {90: 0.6, 80: 0.1, 70: 0.2})
    state = AttackState(Level(), CLEAN, StopCriteria(1, max_seconds=3600.0), rates, None, exact=True)
    for level in (90, 80, 70):
        state.check(record(state, level, level / 255))
    looks = iter([False] * (after + 1) if after else [])
    state.out_of_time = lambda: next(looks, None) is not False  # type: ignore[method-assign]
    assert not state.finalize(candidate(70))
    assert len(rates.in_full_of) == checks
    assert torch.equal(state.best(), candidate(90))


@pytest.mark.parametrize(("later", "level"), [(0.8, 70), (0.1, 80)])
def test_a_start_that_the_time_ends_competes_with_the_one_before(later: float, level: int) -> None:
    def success(pixels: Tensor) -> float:
        return 0.2 if torch.equal(pixels, candidate(80)) else later

    state = AttackState(Level(), CLEAN, StopCriteria(1), success, None, exact=False)
    assert not state.check(record(state, 80, 0.4))
    assert not state.finalize(candidate(80))
    assert not state.check(record(state, 70, 0.2))
    assert torch.equal(state.best(), candidate(level))


def test_the_final_check_scores_nothing_once_the_time_is_spent() -> None:
    objective = Level()
    criteria = StopCriteria(1, max_seconds=3600.0)
    state = AttackState(objective, CLEAN, criteria, lambda pixels: 0.2, None, exact=False)
    for level in (90, 80, 70):
        state.check(record(state, level, level / 255))
    looks = iter([False])
    state.out_of_time = lambda: next(looks, True)  # type: ignore[method-assign]
    assert not state.finalize(candidate(70))
    assert objective.scored == 0
    assert state.rate == 0.2


def test_rates_of_different_questions_are_not_compared() -> None:
    """A check that stops early knows the first questions only."""

    class Early:
        def __call__(self, pixels: Tensor) -> float:
            return 0.5 if torch.equal(pixels, candidate(80)) else 0.67

        def in_full(self, pixels: Tensor) -> float:
            return 0.5 if torch.equal(pixels, candidate(80)) else 0.2

    state = AttackState(Level(), CLEAN, StopCriteria(1), Early(), None, exact=False)
    assert not state.check(record(state, 80, 0.4))
    assert not state.finalize(candidate(80))
    assert not state.check(record(state, 70, 0.2))
    assert (state.rate, torch.equal(state.best(), candidate(80))) == (0.5, True)


def test_a_later_picture_that_passes_with_fewer_refusals_does_not_replace_the_first() -> None:
    rates = iter([1.0, 0.96, 1.0])
    state = AttackState(Level(), CLEAN, StopCriteria(1, 0.95), lambda _pixels: next(rates), None, exact=False)
    kept = []
    for level in (60, 61, 62):
        pixels = record(state, level, 0.5)
        assert state.check(pixels)
        kept.append((round(255 * float(state.best()[0, 0, 0])), state.rate))
    assert kept == [(60, 1.0), (60, 1.0), (62, 1.0)]


class RandomLevel(Level):
    """The same of a random model."""

    @property
    def is_random(self) -> bool:
        return True


class DrawsCheck:
    """A check over four draws: passed by the lowest of them, compared by their mean. Brightness decides which."""

    def __init__(self, dark: tuple[float, ...], bright: tuple[float, ...]) -> None:
        self.dark, self.bright = dark, bright

    def __call__(self, pixels: Tensor) -> float:
        return min(self._rates(pixels))

    def in_full(self, pixels: Tensor) -> float:
        rates = self._rates(pixels)
        return sum(rates) / len(rates)

    def _rates(self, pixels: Tensor) -> tuple[float, ...]:
        return self.bright if float(pixels.max()) > 0.5 else self.dark


def test_a_mean_over_draws_is_no_success_where_one_draw_fails_the_check() -> None:
    criteria = StopCriteria(check_every=10, enough_rate=0.95)
    check = DrawsCheck((1, 1, 1, 0.85), (1, 1, 1, 0.85))
    state = AttackState(RandomLevel(), CLEAN, criteria, check, None, exact=False)
    for level in range(120):
        last = record(state, level, 0.5)
    assert not state.check(last)
    assert not state.finalize(last)
    assert state.chosen_by != "check"


def test_a_later_start_cut_short_competes_by_the_mean_over_draws() -> None:
    check = DrawsCheck((0.4,) * 4, (0.9, 0.9, 0.9, 0.3))
    state = AttackState(RandomLevel(), CLEAN, StopCriteria(max_seconds=60), check, None, exact=False)
    state.finalize(record(state, 60, 0.5))
    assert state.rate == pytest.approx(0.4)
    state.check(record(state, 200, 0.5))
    assert state.rate == pytest.approx(0.75)
