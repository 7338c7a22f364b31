from __future__ import annotations

from io import BytesIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from equipoise.attacks.budgets import LARGEST_L2, Budget, parse_epsilon
from equipoise.errors import UsageError
from equipoise.media.quantize import is_quantized, quantize, to_image, to_pixels
from tests.attacks.fakes import within

EPSILONS = st.one_of(st.integers(1, 255).map(lambda levels: levels / 255), st.floats(1 / 255, 1))


def reread(pixels: Tensor) -> Tensor:
    buffer = BytesIO()
    to_image(pixels).save(buffer, "PNG")
    return to_pixels(Image.open(buffer))


@settings(max_examples=150, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=EPSILONS,
    factor=st.sampled_from([1, 1, 4, 20]),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-4, 0.003, 0.02, 0.1, 1.0, 30.0]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_what_is_saved_and_read_again_is_within_the_budget(
    norm: str, epsilon: float, factor: int, seed: int, scale: float, shape: tuple[int, int]
) -> None:
    random = torch.Generator().manual_seed(seed)
    clean = torch.randint(-40, 296, (3, *shape), generator=random).clamp(0, 255) / 255
    proposal = clean + torch.randn(clean.shape, generator=random) * scale
    budget = Budget(norm, epsilon * factor if norm == "l2" else epsilon)  # type: ignore[arg-type]
    candidate = budget.project_quantized(proposal, clean)
    assert torch.equal(reread(candidate), candidate)
    assert within(budget, reread(candidate), clean)
    assert candidate.min() >= 0
    assert candidate.max() <= 1
    projected = budget.project(proposal, clean)
    assert budget.measure(projected, clean) <= budget.epsilon * (1 + 1e-5) + 1e-6
    assert torch.equal(budget.project_quantized(candidate, clean), candidate)


def test_linf_takes_the_nearest_legal_level() -> None:
    clean = torch.tensor([100.0, 100, 100, 0, 255, 100]).reshape(3, 1, 2) / 255
    wanted = torch.tensor([104.4, 109.0, 91.0, -5.0, 260.0, 100.2]).reshape(3, 1, 2) / 255
    result = Budget("linf", 8 / 255).project_quantized(wanted, clean) * 255
    assert result.round().flatten().tolist() == [104, 108, 92, 0, 255, 100]


def test_an_epsilon_between_levels_reaches_only_the_lower_one() -> None:
    clean = torch.full((3, 2, 2), 128 / 255)
    budget = Budget("linf", 0.03)
    assert budget.measure(budget.project_quantized(clean + 0.03, clean), clean) == 7 / 255


def test_l2_uses_its_budget_where_rounding_to_nearest_would_lose_it() -> None:
    random = torch.Generator().manual_seed(0)
    clean = torch.randint(50, 200, (3, 40, 40), generator=random) / 255
    budget = Budget("l2", 20 / 255)  # 0.29 levels a value: to nearest, next to nothing would be left
    change = torch.randn(clean.shape, generator=random)
    proposal = budget.project(clean + change, clean)
    candidate = budget.project_quantized(proposal, clean)
    assert 0.9 * budget.epsilon < budget.measure(candidate, clean) <= budget.epsilon
    assert ((candidate - clean) * change >= 0).all()


def test_l2_does_not_grow_a_small_change_to_the_whole_budget() -> None:
    clean = torch.full((3, 8, 8), 0.2)
    clean = quantize(clean)
    proposal = clean + 0.2 / 255
    budget = Budget("l2", 1.0)
    assert budget.measure(budget.project_quantized(proposal, clean), clean) <= budget.measure(proposal, clean) + 1e-6


def test_measures_are_exact_between_eight_bit_pictures() -> None:
    clean = torch.arange(48).reshape(3, 4, 4) / 255
    assert Budget("linf", 1).measure(clean + 8 / 255, clean) == 8 / 255
    assert Budget("l2", 1).measure(clean + 3 / 255, clean) == 3 * 48**0.5 / 255


@pytest.mark.parametrize(
    ("norm", "epsilon", "hint"),
    [
        ("linf", 0.0, "above 0"),
        ("linf", -8 / 255, "above 0"),
        ("linf", 8.0, "try 8/255"),
        ("linf", 1.01, "at most 1"),
        ("linf", 300 / 255, "got 1.17647; try 8/255"),
        ("linf", 0.001, "at least 1/255"),
        ("l2", 0.0, "above 0"),
        ("l2", float("nan"), "above 0"),
        ("linf", float("inf"), "above 0"),
        ("l1", 0.1, "linf or l2"),
        ("l2", 1e5, "at most 14189"),
        ("l2", 1e308, "at most 14189"),
    ],
)
def test_impossible_budgets_are_refused(norm: str, epsilon: float, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        Budget(norm, epsilon)  # type: ignore[arg-type]


def test_pixels_between_levels_are_refused_with_the_remedy() -> None:
    clean = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert not is_quantized(clean)
    assert is_quantized(quantize(clean))
    with pytest.raises(UsageError, match="quantize"):
        Budget("linf", 0.1).centered_at(clean)


def test_epsilon_is_read_as_number_or_fraction() -> None:
    assert parse_epsilon(" 8/255 ") == 8 / 255
    assert parse_epsilon("0.03") == 0.03
    for text in ("", "eight", "8/0", "8/", "1/2/3", "nan", "inf", "1e400/1"):
        with pytest.raises(UsageError, match="try 8/255"):
            parse_epsilon(text)


def test_the_advice_about_an_epsilon_that_is_too_large_is_one_that_is_taken() -> None:
    for epsilon in (8.0, 255.0, 300.0, 1e300):
        with pytest.raises(UsageError) as refused:
            Budget("linf", epsilon)
        assert Budget("linf", parse_epsilon(str(refused.value).rpartition("try ")[2])).epsilon <= 1


def test_the_largest_l2_budget_still_moves_a_picture() -> None:
    clean = quantize(torch.full((3, 8, 8), 0.5))
    moved = Budget("l2", LARGEST_L2).project_quantized(torch.ones_like(clean), clean)
    assert bool((moved > clean).all())


@pytest.mark.parametrize("budget", [Budget("linf", 8 / 255), Budget("l2", 1.0)], ids=lambda budget: budget.norm)
def test_no_value_falls_below_its_floor(budget: Budget) -> None:
    clean = torch.full((3, 6, 6), 200 / 255)
    floor = torch.linspace(0, 1, 36).reshape(6, 6)
    feasible = budget.centered_at(clean, floor=floor)
    for move in (-1.0, -0.01, 1.0):
        point = feasible.project_quantized(clean + move)
        lowest = torch.minimum(floor.expand_as(clean), clean)
        assert (point >= lowest - 1e-6).all()
        assert budget.measure(point, clean) <= budget.epsilon + 1e-9
        assert (feasible.project(clean + move) >= lowest - 1e-6).all()
    assert torch.equal(feasible.project_quantized(clean - 1)[:, floor >= 200 / 255], clean[:, floor >= 200 / 255])
    assert (feasible.project_quantized(clean - 1)[:, 0] < clean[:, 0]).any()
