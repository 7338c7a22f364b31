from __future__ import annotations

import pytest
import torch

from equipoise.media.quantize import eight_bit
from equipoise.transforms.base import interpolate
from equipoise.transforms.geometry import Crop, Resize, ResizeAndPad, Shrink
from tests.attacks.fakes import CLEAN
from tests.transforms.tiny_denoiser import drawn

GREY = 128 / 255


def test_resize_and_crop_change_the_size_as_asked() -> None:
    assert Resize(0.75, 0.75)(CLEAN, drawn(0)).shape == (3, 36, 30)
    assert Crop(0.5, 0.5)(CLEAN, drawn(0)).shape == (3, 24, 20)
    assert Crop(0.5, 0.5, restore=True)(CLEAN, drawn(0)).shape == CLEAN.shape
    assert Resize(0.001, 0.001)(CLEAN, drawn(0)).shape == (3, 1, 1)


def test_sizes_come_from_the_whole_range_and_no_other() -> None:
    heights = [Resize()(CLEAN, drawn(seed)).shape[1] for seed in range(60)]
    assert 29 <= min(heights) <= 31
    assert 56 <= max(heights) <= 58
    heights = [Crop()(CLEAN, drawn(seed)).shape[1] for seed in range(60)]
    assert 38 <= min(heights) <= 39
    assert 47 <= max(heights) <= 48


def test_both_kernels_of_a_resize_are_drawn() -> None:
    kernels = [eight_bit(interpolate(CLEAN, (36, 30), mode)) for mode in ("bilinear", "bicubic")]
    resized = [Resize(0.75, 0.75)(CLEAN, drawn(seed)) for seed in range(12)]
    assert {[torch.equal(one, kernel) for kernel in kernels].index(True) for one in resized} == {0, 1}


def test_a_crop_is_a_part_of_the_picture_and_may_lie_at_every_edge() -> None:
    offsets = set()
    # Every value says where it is from.
    rows, columns = torch.meshgrid(torch.arange(10), torch.arange(12), indexing="ij")
    where = torch.stack([rows, columns, rows]) / 255
    for seed in range(80):
        part = (Crop(0.8, 0.8)(where, drawn(seed)) * 255).round().long()
        top, left = int(part[0, 0, 0]), int(part[1, 0, 0])
        assert torch.equal(part, (where * 255).round().long()[:, top : top + 8, left : left + 10])
        offsets.add((top, left))
    assert offsets == {(top, left) for top in range(3) for left in range(3)}


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_shrinking_loses_what_is_fine_and_keeps_what_is_not(share: float) -> None:
    checks = ((torch.arange(48)[:, None] + torch.arange(40)[None]) % 2).float().repeat(3, 1, 1)
    ramp = torch.linspace(0.2, 0.8, 40).repeat(3, 48, 1)
    assert float(Shrink(share)(checks, drawn(0)).std()) < 0.7 * float(checks.std())
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert float((Shrink(share)(ramp, drawn(0)) - ramp)[inside].abs().max()) < 2 / 255


def test_shrinking_by_half_leaves_no_trace_of_a_checkerboard() -> None:
    checks = ((torch.arange(48)[:, None] + torch.arange(40)[None]) % 2).float().repeat(3, 1, 1)
    assert float(Shrink(0.5)(checks, drawn(0)).std()) < 0.05


def test_shrinking_has_the_gradient_of_its_float_path_where_nothing_is_clipped() -> None:
    leaf = CLEAN.clone().requires_grad_(True)
    weights = torch.randn(CLEAN.shape, generator=drawn(1))
    soft = interpolate(interpolate(leaf, (24, 20), "bicubic"), (48, 40), "bicubic")
    inside = (soft.detach() >= 0) & (soft.detach() <= 1)
    (expected,) = torch.autograd.grad((soft * weights * inside).sum(), leaf)
    (gradient,) = torch.autograd.grad((Shrink(0.5)(leaf, drawn(0)) * weights).sum(), leaf)
    assert torch.equal(gradient, expected)


def test_a_padded_picture_is_whole_on_grey() -> None:
    # Nowhere grey itself, so that what is not grey is the picture.
    bright = CLEAN * 0.4 + 0.6
    offsets, heights = set(), set()
    for seed in range(60):
        padded = ResizeAndPad(0.8, 1.0)(bright, drawn(seed))
        assert padded.shape == bright.shape
        rows, columns = ((padded - GREY).abs() > 0.01).all(0).nonzero().T
        top, left = int(rows.min()), int(columns.min())
        size = (int(rows.max()) - top + 1, int(columns.max()) - left + 1)
        assert abs(size[0] / 48 - size[1] / 40) < 0.03
        small = eight_bit(interpolate(bright, size, "bilinear"))
        assert torch.equal(padded[:, top : top + size[0], left : left + size[1]], small)
        padded[:, top : top + size[0], left : left + size[1]] = GREY
        assert torch.allclose(padded, torch.tensor(GREY))
        offsets.add((top, left))
        heights.add(size[0])
    assert 38 <= min(heights) <= 39
    assert 47 <= max(heights) <= 48
    assert len(offsets) > 20


def test_padding_may_lie_at_every_edge() -> None:
    white = torch.ones(3, 10, 10)
    offsets = {tuple((ResizeAndPad(0.8, 0.8)(white, drawn(seed))[0] == 1).nonzero()[0].tolist()) for seed in range(80)}
    assert offsets == {(top, left) for top in range(3) for left in range(3)}


def test_the_padding_takes_no_gradient_and_the_picture_all() -> None:
    leaf = CLEAN.clone().requires_grad_(True)
    padded = ResizeAndPad(0.8, 0.8)(leaf, drawn(0))
    (gradient,) = torch.autograd.grad(padded.sum(), leaf)
    # Resizing is a weighted mean: each of the small picture's values hands out a gradient of 1.
    assert abs(float(gradient.sum()) - 3 * 38 * 32) < 0.1
