"""Changes of low frequency: within the budget on the saved file, with exact gradients, and smooth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from equipoise.attacks.base import Attack
from equipoise.attacks.budgets import Budget
from equipoise.attacks.low_frequency import CoarseGrid, grid_size
from equipoise.attacks.perceptual import Perceptual
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.solvers import Bim, Momentum
from equipoise.errors import UsageError
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from tests.attacks.fakes import CLEAN, photo, reply, within
from tests.attacks.test_solvers import TABLE
from tests.models.tiny_plain import PlainTorchModel

LINF = Budget("linf", 8 / 255)
GRID = CoarseGrid((6, 5), (CLEAN.shape[1], CLEAN.shape[2]))
sides = st.integers(1, 40)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


@given(rows=sides, columns=sides, height=sides, width=sides)
@settings(max_examples=60, deadline=None)
def test_gathering_is_the_adjoint_of_spreading_and_nothing_grows(
    rows: int, columns: int, height: int, width: int
) -> None:
    grid = CoarseGrid((rows, columns), (height, width))
    coarse, fine = noise(3, *grid.size).double(), noise(3, height, width, seed=1).double()
    spread = grid.spread(coarse)
    assert spread.shape == fine.shape
    torch.testing.assert_close((spread * fine).sum(), (coarse * grid.gather(fine)).sum())
    assert spread.abs().max() <= coarse.abs().max() * (1 + 1e-6)
    constant = torch.full_like(coarse, 0.25)
    torch.testing.assert_close(grid.spread(constant), torch.full_like(fine, 0.25))
    torch.testing.assert_close(grid.average(torch.full_like(fine, 0.25)), constant)


def test_the_gradient_in_the_grid_is_that_of_the_loss_of_the_spread_change() -> None:
    coarse = noise(3, *GRID.size).requires_grad_(True)
    pixels = CLEAN + GRID.spread(coarse)
    (expected,) = torch.autograd.grad((3 * pixels).sin().sum(), coarse)
    torch.testing.assert_close(GRID.gather(3 * (3 * pixels.detach()).cos()), expected)


@pytest.mark.parametrize("attack", TABLE)
def test_every_solver_stays_within_the_budget_on_the_saved_file(attack: Attack, tmp_path: Path) -> None:
    objective = reply()
    coarse = replace(attack, grid=GRID.size)
    result = coarse(objective, CLEAN, seed=5)
    pixels = to_pixels(open_picture(result.save(tmp_path / "p")))
    assert within(attack.budget, pixels, CLEAN)
    assert result.linf > 0
    # Less than a change of every pixel achieves: this toy sees every pixel, and a few values move them all.
    assert objective.score(pixels) < objective.score(CLEAN) - 0.3
    assert result.recipe["grid"] == GRID.size


def test_the_same_seed_gives_the_same_bytes_and_plain_recipes_name_no_grid() -> None:
    attack = Bim(LINF, steps=2, questions_per_step=2, random_start=True)
    coarse = replace(attack, grid=GRID.size)
    assert coarse(reply(), CLEAN, seed=5).image.tobytes() == coarse(reply(), CLEAN, seed=5).image.tobytes()
    assert "grid" not in attack(reply(), CLEAN, seed=5).recipe


def test_the_change_holds_no_more_than_the_grid_does() -> None:
    plain, coarse = (Momentum(LINF, steps=10, grid=grid)(reply(), CLEAN) for grid in (None, GRID.size))
    # Where nothing is cut off at black or white, a change is its own spread average up to rounding.
    inside = (CLEAN - 0.5).abs() <= 0.5 - LINF.epsilon
    rough = [(result.pixels - CLEAN).diff(dim=2).abs()[inside[:, :, 1:]].mean() for result in (plain, coarse)]
    assert rough[1] < 0.35 * rough[0]


def test_a_grid_of_every_pixel_is_the_plain_attack() -> None:
    whole = (CLEAN.shape[1], CLEAN.shape[2])
    grey = torch.full_like(CLEAN, 128 / 255)
    results = [Bim(LINF, steps=6, grid=grid)(reply(), grey).pixels for grid in (None, whole, (999, 999))]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1.01 / 255)
    assert torch.equal(results[1], results[2]), "a grid is never finer than its picture"


def test_starts_after_the_first_are_random_on_the_grid() -> None:
    results = [Bim(LINF, steps=1, random_start=True, grid=(2, 2))(reply(), CLEAN, seed=seed) for seed in (1, 2)]
    assert results[0].image.tobytes() != results[1].image.tobytes()
    assert all(result.linf > 2 / 255 for result in results)


def test_a_perceptual_budget_keeps_its_reach_on_a_grid() -> None:
    perceptual = Perceptual(similarities=(0.97,))
    attack = Momentum(LINF, steps=8, perceptual=perceptual, grid=GRID.size)
    result = attack(reply(), CLEAN)
    assert within(LINF, result.pixels, CLEAN)
    reach = perceptual.reaches(CLEAN, LINF.epsilon)[-1]
    assert bool(((result.pixels - CLEAN).abs() <= reach + 1e-6).all())


def test_grids_follow_what_the_models_see() -> None:
    assert grid_size(400, 600, 0, 1.0) == (400, 600)
    assert grid_size(400, 600, 60_000, 1.0) == (200, 300)
    assert grid_size(400, 600, 60_000, 0.5) == (100, 150)
    assert grid_size(400, 600, 10**6, 1.0) == (400, 600), "tiles may show a model more pixels than there are"
    assert grid_size(1, 600, 1, 0.01) == (1, 1)


def test_the_attack_on_refusals_uses_the_grid_of_its_targets() -> None:
    attack = RefusalAttack(LINF, steps=3, check_every=0, reply="I can't help.", low_frequency=0.25)
    result = attack(photo(), [PlainTorchModel()], ["What is this?"])
    assert tuple(result.recipe["grid"]) == (CLEAN.shape[1] // 4, CLEAN.shape[2] // 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CoarseGrid((0, 3), (4, 4)),
        lambda: Bim(LINF, grid=(0, 1)),
        lambda: RefusalAttack(low_frequency=0.0),
        lambda: RefusalAttack(low_frequency=1.5),
        lambda: RefusalAttack(low_frequency=1.0).run_universal([photo()], [PlainTorchModel()], ["Why?"]),
    ],
)
def test_senseless_grids_are_refused(make: object) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        make()  # type: ignore[operator]
