from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.solvers import Bim
from equipoise.attacks.universal import UniversalObjective, apply_change, resize_change, run_universal
from equipoise.errors import UsageError
from equipoise.media.quantize import is_quantized, to_pixels
from tests.attacks.fakes import grad_of, photo, reply, within

BUDGET = Budget("linf", 8 / 255)
CLEAN = [to_pixels(photo(seed, *size)) for seed, size in enumerate([(40, 48), (32, 50), (64, 44)])]
OBJECTIVES = [reply(questions=("What is this?", "Is it red?"))] * 3


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
    recorded: list[int] = []

    def success(pixels: object) -> float:
        assert isinstance(pixels, list)
        assert all(isinstance(one, Tensor) for one in pixels)
        recorded.append(len(pixels))
        return 1.0

    attack = Bim(BUDGET, steps=9, questions_per_step=2)
    result = run_universal(attack, OBJECTIVES, CLEAN, success=success, stop=StopCriteria(3))
    assert recorded == [3]
    assert (result.pictures[0].stopped, result.pictures[0].steps) == ("success", 3)


def test_no_pictures_and_uneven_objectives_are_refused() -> None:
    for objectives, clean in (([], []), (OBJECTIVES[:1], CLEAN), ([reply(), OBJECTIVES[0]], CLEAN[:2])):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            run_universal(Bim(BUDGET), objectives, clean)
