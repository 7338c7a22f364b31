from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.solvers import Bim
from equipoise.attacks.success_checks import MeanRateCheck, RefusalRateCheck
from equipoise.attacks.universal import UniversalObjective, apply_change, resize_change, run_universal
from equipoise.errors import UsageError
from equipoise.media.quantize import is_quantized, to_pixels
from tests.attacks.fakes import grad_of, photo, reply, within

BUDGET = Budget("linf", 8 / 255)
CLEAN = [to_pixels(photo(seed, *size)) for seed, size in enumerate([(40, 48), (32, 50), (64, 44)])]
OBJECTIVES = [reply(questions=("What is this?", "Is it red?"))] * 3


class ScriptedCheck(RefusalRateCheck):
    """Rates of a check that stops early, and of one that asks everything."""

    def __init__(self, early: float, full: float) -> None:
        self.early, self.full = early, full
        self.shapes: list[torch.Size] = []

    def with_target(self, pixels: Tensor, target_rate: float) -> float:
        self.shapes.append(pixels.shape)
        return self.early

    def in_full(self, pixels: Tensor) -> float:
        return self.full


def mean(checks: list[ScriptedCheck]) -> MeanRateCheck:
    return MeanRateCheck(checks)


@pytest.mark.parametrize("budget", [BUDGET, Budget("l2", 2.0)], ids=lambda budget: budget.norm)
def test_one_change_lowers_the_loss_of_every_picture_within_its_budget(budget: Budget) -> None:
    result = run_universal(Bim(budget, steps=15), OBJECTIVES, CLEAN)
    assert result.change.shape == (3, 44, 32)
    assert is_quantized(result.change.abs())
    for clean, one, objective in zip(CLEAN, result.pictures, OBJECTIVES, strict=True):
        assert within(budget, one.pixels, clean)
        assert objective.score(one.pixels) < objective.score(clean)
        assert torch.equal(one.pixels, apply_change(result.change, clean, budget))
    assert [one.recipe["picture"] for one in result.pictures] == [0, 1, 2]


def test_stretching_repeats_values_and_leaves_equal_sizes_alone() -> None:
    change = torch.arange(12.0).reshape(3, 2, 2)
    assert resize_change(change, 2, 2) is change
    wide = resize_change(change, 4, 6)
    assert torch.equal(wide[0], torch.tensor([[0.0] * 3 + [1] * 3] * 2 + [[2.0] * 3 + [3] * 3] * 2))


def test_the_gradient_of_the_canvas_is_gathered_from_all_pictures() -> None:
    shared = UniversalObjective(tuple(OBJECTIVES), tuple(map(BUDGET.centered_at, CLEAN)))
    assert shared.size == 6
    gradient = grad_of(shared, shared.canvas())
    total = torch.zeros_like(gradient)
    for clean, objective in zip(CLEAN, OBJECTIVES, strict=True):
        leaf = torch.zeros_like(gradient).requires_grad_(True)
        (part,) = torch.autograd.grad(resize_change(leaf, *clean.shape[1:]), leaf, grad_of(objective, clean))
        total += part / 3
    assert torch.allclose(gradient, total, atol=1e-6)


def test_steps_may_look_at_some_pictures_only_and_checks_see_all() -> None:
    checks = [ScriptedCheck(1.0, 1.0) for _ in CLEAN]
    attack = Bim(BUDGET, steps=9, questions_per_step=2)
    result = run_universal(attack, OBJECTIVES, CLEAN, success=mean(checks), stop=StopCriteria(3))
    assert [check.shapes for check in checks] == [[clean.shape] for clean in CLEAN]
    assert (result.pictures[0].stopped, result.pictures[0].steps) == ("success", 3)


def test_a_run_without_success_is_ranked_by_rates_over_all_questions() -> None:
    """A check stops early, so that its rate may be of a few questions only."""
    checks = [ScriptedCheck(early=0.8, full=0.2) for _ in CLEAN]
    attack = Bim(BUDGET, steps=6, questions_per_step=2)
    result = run_universal(attack, OBJECTIVES, CLEAN, success=mean(checks), stop=StopCriteria(2))
    assert {round(one.rate or 0.0, 6) for one in result.pictures} == {0.2}


def test_a_mean_above_the_target_counts_although_one_picture_is_below_it() -> None:
    check = mean([ScriptedCheck(1.0, 1.0), ScriptedCheck(early=0.5, full=0.9)])
    assert check.with_target(CLEAN[:2], 0.7) == pytest.approx(0.95)
    assert check.with_target(CLEAN[:2], 1.0) == pytest.approx(0.75)


def test_the_floor_of_a_picture_holds_for_its_own_change() -> None:
    floors = [None, torch.full((50, 32), 1.0), None]
    result = run_universal(Bim(BUDGET, steps=4), OBJECTIVES, CLEAN, floors=floors)
    changes = [one.linf for one in result.pictures]
    assert changes[0] > 0
    assert (result.pictures[1].pixels >= CLEAN[1]).all()


def test_each_picture_records_its_own_objective() -> None:
    own = [reply(questions=("What is this?", f"Is it {colour}?")) for colour in ("red", "blue")]
    result = run_universal(Bim(BUDGET, steps=2), own, CLEAN[:2])
    assert [one.recipe["objective"]["questions"][1] for one in result.pictures] == ["Is it red?", "Is it blue?"]
    assert {one.recipe["objective"]["universal_over"] for one in result.pictures} == {2}


def test_no_pictures_and_uneven_objectives_are_refused() -> None:
    for objectives, clean in (([], []), (OBJECTIVES[:1], CLEAN), ([reply(), OBJECTIVES[0]], CLEAN[:2])):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            run_universal(Bim(BUDGET), objectives, clean)
