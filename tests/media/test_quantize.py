"""Float pixels and 8-bit values are exact inverses, and gradients pass where nothing is clipped."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from equipoise.errors import UsageError
from equipoise.media.quantize import check_pixels, eight_bit, is_quantized, quantize, to_image, to_pixels

FLOATS = st.lists(st.floats(-2, 3, width=32), min_size=12, max_size=12).map(
    lambda values: torch.tensor(values).reshape(3, 2, 2)
)


def test_pixels_and_image_are_exact_inverses() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    pixels = to_pixels(Image.fromarray(every))
    assert pixels.dtype == torch.float32
    assert pixels.shape == (3, 16, 16)
    assert (float(pixels.min()), float(pixels.max())) == (0.0, 1.0)
    assert np.array_equal(np.asarray(to_image(pixels)), every)
    assert torch.equal(to_pixels(to_image(pixels)), pixels)
    assert np.array_equal(np.asarray(to_image(pixels.clone().requires_grad_())), every)


def test_pixels_are_channels_first() -> None:
    picture = Image.new("RGB", (5, 3), (255, 0, 0))
    picture.putpixel((4, 1), (0, 255, 0))
    pixels = to_pixels(picture)
    assert pixels[:, 1, 4].tolist() == [0.0, 1.0, 0.0]


def test_the_nearest_8_bit_picture_passes_the_gradient_where_nothing_is_clipped() -> None:
    values = torch.tensor([-0.5, -0.001, 0.0, 0.3, 0.5, 1.0, 1.001, 7.0], requires_grad=True)
    rounded = eight_bit(values)
    assert is_quantized(rounded.detach())
    assert torch.allclose(rounded * 255, torch.tensor([0, 0, 0, 76.0, 128, 255, 255, 255]))
    (gradient,) = torch.autograd.grad(rounded.sum(), values)
    assert gradient.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


@settings(max_examples=100, deadline=None)
@given(pixels=FLOATS)
def test_all_ways_to_8_bits_agree_and_doing_it_twice_changes_nothing(pixels: Tensor) -> None:
    nearest = quantize(pixels)
    assert is_quantized(nearest)
    assert float((nearest - pixels.clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(quantize(nearest), nearest)
    assert torch.equal(eight_bit(pixels), nearest)
    assert torch.equal(to_pixels(to_image(pixels)), nearest)


@settings(max_examples=50, deadline=None)
@given(pixels=FLOATS)
def test_a_saved_picture_holds_the_nearest_8_bit_values(pixels: Tensor) -> None:
    file = io.BytesIO()
    to_image(pixels).save(file, "PNG")
    with Image.open(file) as reopened:
        assert torch.equal(to_pixels(reopened), quantize(pixels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_8_bit_values_are_recognised_in_any_precision_and_nothing_between_them(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=dtype) / 255
    assert is_quantized(levels)
    for share in (0.01, 0.1, 0.5):
        assert not is_quantized(levels[:-1] + share / 255)


def test_quantizing_leaves_its_argument_alone() -> None:
    pixels = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = pixels.clone()
    quantize(pixels), eight_bit(pixels), is_quantized(pixels), to_image(pixels)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("right", [torch.zeros(3, 1, 1), torch.ones(3, 4, 5).double(), torch.full((3, 2, 2), 1 + 5e-7)])
def test_pixels_in_range_are_accepted(right: Tensor) -> None:
    check_pixels(right)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 255.0),
        torch.full((3, 4, 4), -0.1),
        torch.full((3, 4, 4), torch.nan),
        torch.zeros(3, 0, 4),
    ],
)
def test_wrong_pixels_are_refused_in_one_line(wrong: Tensor) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got .*; try [^\n]*$"):
        check_pixels(wrong)


def test_saved_results_are_read_without_torch() -> None:
    program = "import sys, equipoise.media.quantize; print('torch' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
