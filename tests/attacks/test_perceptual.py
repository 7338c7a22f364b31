"""The perceptual budget: little where a picture is flat, and no more than the attack needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import LossAndGrad, Objective
from equipoise.attacks.perceptual import Perceptual, PerceptualObjective, ms_ssim, texture_variance
from equipoise.attacks.perturbation_result import image_similarity
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.solvers import SOLVERS, Apgd, Bim, Momentum
from equipoise.errors import UsageError
from equipoise.media.quantize import quantize, to_image
from tests.attacks.fakes import CLEAN, QUESTIONS, photo, reply
from tests.models.tiny_plain import PlainTorchModel

EPSILON = 16 / 255
LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


def half_flat(side: int = 64) -> Tensor:
    """Grey on the left, texture on the right."""
    picture = torch.full((3, side, side), 0.5)
    noise = torch.randn((1, side, side // 2), generator=Generator().manual_seed(0)) * 40 / 255
    picture[:, :, side // 2 :] += noise
    return quantize(picture.clamp(0, 1))


@dataclass(frozen=True)
class Brighter(Objective):
    """The mean of the pixels, to be raised."""

    @property
    def size(self) -> int:
        return 1

    def __call__(self, pixels: Tensor, items: Any, random: Generator) -> LossAndGrad:
        return LossAndGrad(float((1 - pixels).mean()), torch.full_like(pixels, -1 / pixels.numel()))

    def describe(self) -> dict[str, Any]:
        return {"kind": "brighter"}


def test_texture_may_move_further_than_flat_regions() -> None:
    first, *_ = Perceptual().reaches(half_flat(), EPSILON)
    flat, texture = first[0, :, :24], first[0, :, 40:]
    assert float(texture.min()) > 3 * float(flat.max())
    assert float(first.min()) >= 1 / 255
    assert float(first.max()) <= EPSILON


def test_later_stages_reach_further() -> None:
    stages = Perceptual().reaches(half_flat(), EPSILON)
    assert float(stages[-1][0, :, :24].max()) == pytest.approx(EPSILON / 2)
    assert float(stages[-1][0, :, 40:].max()) == pytest.approx(EPSILON)
    for tight, wide in pairwise(stages):
        assert bool((wide >= tight).all())
        assert float(wide.mean()) > float(tight.mean())


def test_the_flat_side_of_an_edge_counts_as_flat() -> None:
    picture = torch.zeros((3, 32, 32))
    picture[:, :, 16:] = 1.0
    variance = texture_variance(picture)[0]
    # Two windows away from the edge and just beside it: a change is as visible in both.
    assert float(variance[:, :12].max()) == pytest.approx(0.0, abs=1e-3)
    assert float(variance[:, 20:].max()) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("similarity", [0.97, 0.9])
@pytest.mark.parametrize("noise", [0, 12, 40])
def test_a_change_within_reach_keeps_the_similarity(similarity: float, noise: int) -> None:
    random = np.random.default_rng(1)
    values = np.clip(128 + random.normal(0, noise, (96, 96, 1)), 0, 255).round() * np.ones((1, 1, 3))
    clean = torch.from_numpy(values / 255).float().permute(2, 0, 1)
    (reach, _) = Perceptual((similarity,)).reaches(clean, 1.0)
    signs = torch.from_numpy(random.choice([-1.0, 1.0], (1, 96, 96))).float()
    moved = Budget("linf", 1.0).centered_at(clean, reach).project_quantized(clean + reach * signs)
    _, ssim = image_similarity(to_image(moved), to_image(clean))
    assert ssim is not None
    assert ssim >= similarity - 0.01


def test_a_set_with_reach_projects_and_rounds_within_it() -> None:
    clean = half_flat()
    (reach, _) = Perceptual((0.9,)).reaches(clean, EPSILON)
    region = Budget("linf", EPSILON).centered_at(clean, reach)
    away = region.project_quantized(torch.ones_like(clean))
    assert bool(((away - clean) <= reach + 1e-6).all())
    assert bool(((region.project(torch.zeros_like(clean)) - clean).abs() <= reach + 1e-6).all())
    with pytest.raises(UsageError, match=LINE):
        Budget("l2", 1.0).centered_at(clean, reach)


def test_ms_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    clean = half_flat(192)
    noise = torch.randn(clean.shape, generator=Generator().manual_seed(1))
    values = [float(ms_ssim((clean + size / 255 * noise).clamp(0, 1), clean)) for size in (0, 4, 16)]  # type: ignore[arg-type]
    assert values[0] == pytest.approx(1.0, abs=1e-5)
    assert values[0] > values[1] > values[2] > 0


@pytest.mark.parametrize(("side", "defined"), [(10, False), (11, True), (23, True), (90, True), (161, True)])
def test_small_pictures_are_compared_at_the_scales_that_fit(side: int, defined: bool) -> None:
    clean = torch.rand((3, side, side + 3), generator=Generator().manual_seed(0))
    value = ms_ssim((clean + 0.02).clamp(0, 1), clean)
    assert (value is not None) == defined
    if value is not None:
        assert 0 < float(value) <= 1


def test_the_penalty_has_the_gradient_of_its_loss() -> None:
    clean = half_flat(32)
    penalty = PerceptualObjective(Brighter(), clean, Perceptual(weight=2.0, smoothness=0.1)).penalty
    pixels = (clean + 6 / 255 * torch.randn(clean.shape, generator=Generator().manual_seed(2))).clamp(0.1, 0.9)
    there = penalty(pixels)
    direction = torch.randn(clean.shape, generator=Generator().manual_seed(3))
    step = 1e-3
    slope = (penalty(pixels + step * direction).loss - penalty(pixels - step * direction).loss) / (2 * step)
    assert slope == pytest.approx(float((there.gradient * direction).sum()), rel=0.05)


def test_the_clean_picture_has_no_penalty_and_a_finite_gradient() -> None:
    clean = half_flat()
    there = PerceptualObjective(Brighter(), clean, Perceptual()).penalty(clean)
    assert there.loss == pytest.approx(0.0, abs=1e-4)
    assert bool(there.gradient.isfinite().all())


def test_rough_changes_of_flat_regions_cost_more_than_smooth_ones_and_than_those_of_texture() -> None:
    clean = half_flat()
    penalty = PerceptualObjective(Brighter(), clean, Perceptual(weight=0.0, smoothness=1.0)).penalty
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 4 / 255
    left, right = torch.zeros_like(clean), torch.zeros_like(clean)
    left[:, :, :28], right[:, :, 36:] = board[:, :28], board[:, 36:]
    smooth = torch.zeros_like(clean)
    smooth[:, :, :28] = 4 / 255
    assert penalty(clean + left).loss > 10 * penalty(clean + smooth).loss
    assert penalty(clean + left).loss > 3 * penalty(clean + right).loss


@pytest.mark.parametrize("solver", [Bim, Momentum, Apgd])
def test_the_first_stage_that_passes_is_the_result(solver: type[Bim]) -> None:
    clean = half_flat()
    attack = solver(Budget("linf", EPSILON), steps=40, perceptual=Perceptual(weight=0, smoothness=0))
    tight, *_ = Perceptual().reaches(clean, EPSILON)
    result = attack(Brighter(), clean, success=lambda pixels: float((pixels - clean).mean() > 0.25 / 255))
    assert result.stopped == "success"
    assert bool(((result.pixels - clean).abs() <= tight + 1e-6).all())
    assert result.steps <= 10


def test_later_stages_follow_where_no_check_is_passed() -> None:
    clean = half_flat()
    attack = Momentum(Budget("linf", EPSILON), steps=43, perceptual=Perceptual(weight=0, smoothness=0))
    result = attack(Brighter(), clean, success=lambda pixels: 0.0)
    assert result.steps == 43
    assert result.stopped == "steps"
    # The last stage moves the flat half by half of the budget, and the other one by all of it.
    change = result.pixels - clean
    assert float(change[:, :, :24].mean()) == pytest.approx(EPSILON / 2, rel=0.1)
    assert float(change[:, :, 40:].max()) == pytest.approx(EPSILON, rel=0.1)
    short = replace(attack, steps=2)(Brighter(), clean, success=lambda pixels: 0.0)
    assert short.steps == 2


def test_the_penalty_keeps_a_change_from_being_seen() -> None:
    clean = half_flat(96)
    similar = []
    for weight in (0.0, 30.0):
        attack = Bim(Budget("linf", EPSILON), steps=30, perceptual=Perceptual((0.9,), weight, 0.0))
        similar.append(attack(Brighter(), clean).ms_ssim)
    assert similar[0] is not None
    assert similar[1] is not None
    assert similar[1] > similar[0]


def test_the_record_has_the_similarity_only_where_it_was_asked_for() -> None:
    attack = RefusalAttack(Budget("linf", EPSILON), steps=8, check_every=0, perceptual=Perceptual())
    result = attack(photo(), [PlainTorchModel()], QUESTIONS)
    assert result.ms_ssim is not None
    assert result.recipe["perceptual"]["similarities"] == (0.97, 0.93, 0.87)
    assert result.recipe["objective"]["perceptual"] == {"weight": 3.0, "smoothness": 0.02}
    plain = replace(attack, perceptual=None)(photo(), [PlainTorchModel()], QUESTIONS)
    assert plain.ms_ssim is None
    assert "perceptual" not in plain.recipe


def test_the_same_seed_gives_the_same_bytes() -> None:
    attack = RefusalAttack(Budget("linf", EPSILON), steps=12, perceptual=Perceptual(), restarts=2)
    pictures = [attack(photo(), [PlainTorchModel()], QUESTIONS, seed=3).image.tobytes() for _ in range(2)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_every_solver_keeps_the_budget(solver: str) -> None:
    clean = CLEAN
    attack = SOLVERS[solver](budget=Budget("linf", 4 / 255), steps=9, perceptual=Perceptual())
    result = attack(reply(0), clean, stop=StopCriteria())
    assert result.linf <= 4 / 255 + 1e-9


@pytest.mark.parametrize(
    "settings",
    [{"similarities": ()}, {"similarities": (0.9, 0.95)}, {"similarities": (1.0,)}, {"weight": -1.0}],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=LINE):
        Perceptual(**settings)


def test_l2_and_universal_changes_have_no_perceptual_budget() -> None:
    with pytest.raises(UsageError, match=LINE):
        Bim(Budget("l2", 1.0), perceptual=Perceptual())
    with pytest.raises(UsageError, match=LINE):
        RefusalAttack(Budget("l2", 1.0), perceptual=Perceptual())
    attack = RefusalAttack(perceptual=Perceptual())
    with pytest.raises(UsageError, match=LINE):
        attack.run_universal([Image.new("RGB", (9, 9))], [PlainTorchModel()], QUESTIONS)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_pictures_of_one_line_have_a_finite_penalty(size: tuple[int, int]) -> None:
    clean = quantize(torch.rand((3, *size), generator=Generator().manual_seed(1)))
    there = PerceptualObjective(Brighter(), clean, Perceptual()).penalty((clean + 4 / 255).clamp(0, 1))
    assert np.isfinite(there.loss)
    assert bool(there.gradient.isfinite().all())
