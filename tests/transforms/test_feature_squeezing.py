from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter

from equipoise.transforms.feature_squeezing import BitDepth, Median
from tests.attacks.fakes import CLEAN
from tests.transforms.tiny_denoiser import drawn

RAMP = (torch.arange(256) / 255).reshape(1, 16, 16).repeat(3, 1, 1)
COLOURS = torch.randint(256, (3, 21, 34), generator=drawn(5)) / 255


@pytest.mark.parametrize("bits", range(1, 8))
def test_fewer_bits_leave_as_many_levels_from_black_to_white_evenly(bits: int) -> None:
    levels = BitDepth(bits)(RAMP, drawn(0)).unique()
    assert len(levels) == 2**bits
    even = torch.linspace(0, 1, 2**bits)
    assert float((levels - even).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("bits", range(1, 8))
def test_each_value_goes_to_the_nearest_level(bits: int) -> None:
    away = (BitDepth(bits)(RAMP, drawn(0)) - RAMP).abs()
    assert float(away.max()) <= 0.5 / (2**bits - 1) + 0.5 / 255 + 1e-6


@pytest.mark.parametrize("bits", range(1, 8))
def test_fewer_bits_a_second_time_change_nothing(bits: int) -> None:
    once = BitDepth(bits)(COLOURS, drawn(0))
    assert torch.equal(BitDepth(bits)(once, drawn(0)), once)


def test_the_gradient_of_fewer_bits_passes_as_if_nothing_happened() -> None:
    leaf = RAMP.clone().requires_grad_(True)
    weights = torch.randn(RAMP.shape, generator=drawn(1))
    (gradient,) = torch.autograd.grad((BitDepth(3)(leaf, drawn(0)) * weights).sum(), leaf)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize("size", [3, 5, 15])
@pytest.mark.parametrize("pixels", [CLEAN, COLOURS, COLOURS[:, :2, :5]], ids=["photo", "noise", "small"])
def test_the_median_is_that_of_scipy(size: int, pixels: torch.Tensor) -> None:
    bytes_ = (pixels * 255).round().byte().numpy()
    expected = np.stack([median_filter(channel, size=size, mode="nearest") for channel in bytes_])
    assert np.array_equal((Median(size)(pixels, drawn(0)) * 255).round().byte().numpy(), expected)


def test_the_gradient_of_a_median_goes_to_the_value_that_is_the_median() -> None:
    # All values differ, so that each window has one median and its place is known.
    values = torch.randperm(3 * 7 * 9, generator=drawn(2)).reshape(3, 7, 9) / 255
    leaf = values.clone().requires_grad_(True)
    smoothed = Median(3)(leaf, drawn(0))
    weights = torch.randn(values.shape, generator=drawn(3))
    (gradient,) = torch.autograd.grad((smoothed * weights).sum(), leaf)
    expected = torch.stack([weights[torch.isclose(smoothed, value, atol=1e-4)].sum() for value in values.flatten()])
    assert torch.allclose(gradient.flatten(), expected, atol=1e-5)


def test_a_median_removes_a_dot_and_keeps_an_edge() -> None:
    edge = torch.zeros(3, 9, 9)
    edge[:, :, 5:] = 1
    dotted = edge.clone()
    dotted[:, 4, 2] = 1
    assert torch.equal(Median(3)(dotted, drawn(0)), edge)
