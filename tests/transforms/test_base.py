from __future__ import annotations

import torch

from equipoise.transforms.base import Identity, interpolate, uniform
from tests.attacks.fakes import CLEAN
from tests.transforms.tiny_denoiser import drawn


def test_identity_returns_the_same_values_in_a_new_tensor() -> None:
    result = Identity()(CLEAN, drawn(0))
    assert torch.equal(result, CLEAN)
    assert result.data_ptr() != CLEAN.data_ptr()


def test_numbers_are_drawn_evenly_from_a_range() -> None:
    random = drawn(0)
    numbers = torch.tensor([uniform(0.6, 1.2, random) for _ in range(2000)])
    assert 0.6 <= float(numbers.min()) < 0.61
    assert 1.19 < float(numbers.max()) <= 1.2
    assert abs(float(numbers.mean()) - 0.9) < 0.01
    assert uniform(0.75, 0.75, random) == 0.75


def test_interpolation_to_the_same_size_changes_nothing() -> None:
    for mode in ("bilinear", "bicubic"):
        assert torch.allclose(interpolate(CLEAN, CLEAN.shape[1:], mode), CLEAN, atol=1e-6)
