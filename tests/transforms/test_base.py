from __future__ import annotations

import torch

from equipoise.attacks.budgets import is_quantized
from equipoise.transforms.base import Identity, eight_bit, interpolate, uniform
from tests.attacks.fakes import CLEAN
from tests.transforms.tiny_denoiser import drawn


def test_the_nearest_8_bit_picture_passes_the_gradient_where_nothing_is_clipped() -> None:
    values = torch.tensor([-0.5, -0.001, 0.0, 0.3, 0.5, 1.0, 1.001, 7.0], requires_grad=True)
    rounded = eight_bit(values)
    assert is_quantized(rounded.detach())
    assert torch.allclose(rounded * 255, torch.tensor([0, 0, 0, 76.0, 128, 255, 255, 255]))
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    assert gradient.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_an_8_bit_picture_stays_as_it_is() -> None:
    assert torch.equal(eight_bit(CLEAN), CLEAN)
    assert torch.equal(Identity()(CLEAN, drawn(0)), CLEAN)


def test_the_plain_picture_is_a_new_tensor() -> None:
    assert Identity()(CLEAN, drawn(0)).data_ptr() != CLEAN.data_ptr()


def test_numbers_are_drawn_evenly_from_a_range() -> None:
    random = drawn(0)
    found = torch.tensor([uniform(0.6, 1.2, random) for _ in range(2000)])
    assert 0.6 <= float(found.min()) < 0.61
    assert 1.19 < float(found.max()) <= 1.2
    assert abs(float(found.mean()) - 0.9) < 0.01
    assert uniform(0.75, 0.75, random) == 0.75


def test_interpolation_to_the_same_size_changes_nothing() -> None:
    for mode in ("bilinear", "bicubic"):
        assert torch.allclose(interpolate(CLEAN, CLEAN.shape[1:], mode), CLEAN, atol=1e-6)
