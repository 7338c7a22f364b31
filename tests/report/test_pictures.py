"""Copies, differences and loss curves for pages."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.media.decode import decode_picture
from equipoise.media.encode import read_data_url
from equipoise.report.contact_sheet import fraction, percent, plain
from equipoise.report.pictures import GAIN, SIDE, curve, data_uri, difference, difference_uri
from equipoise.stats.proportions import Rate


def opened(uri: str) -> Image.Image:
    return decode_picture(read_data_url(uri), "a copy")


@settings(max_examples=15)
@given(st.integers(1, 900), st.integers(1, 900))
def test_a_copy_fits_its_box_and_keeps_its_proportions(width: int, height: int) -> None:
    copy = opened(data_uri(Image.new("RGB", (width, height), "teal")))
    assert max(copy.size) == min(SIDE, max(width, height))
    assert min(copy.size) >= 1
    if min(copy.size) > 20:
        assert copy.width / copy.height == pytest.approx(width / height, rel=0.05)


def test_a_small_copy_is_exact() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    assert opened(data_uri(noise)).tobytes() == noise.tobytes()


@given(st.integers(0, 255), st.integers(-40, 40))
def test_a_difference_is_clipped_not_wrapped(level: int, change: int) -> None:
    changed = min(max(level + change, 0), 255)
    first, second = (Image.new("RGB", (4, 4), (value,) * 3) for value in (level, changed))
    expected = min(max(128 + GAIN * (changed - level), 0), 255)
    assert difference(first, second).getpixel((0, 0)) == (expected,) * 3


def test_a_reduced_difference_still_shows_single_pixels() -> None:
    """An average over a fine chequerboard would be grey all over."""
    clean = np.full((2 * SIDE, 2 * SIDE, 3), 100, dtype=np.uint8)
    changed = clean.copy()
    changed[::2, ::2] += 4
    changed[1::2, 1::2] -= 4
    copy = np.asarray(opened(difference_uri(Image.fromarray(clean), Image.fromarray(changed)))).astype(int)
    assert np.abs(copy - 128).max() > 40


finite = st.floats(-10, 1e6)


@given(st.lists(st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf])), max_size=900))
def test_a_curve_stays_in_its_box_whatever_the_losses(losses: list[float]) -> None:
    drawn = curve(losses)
    usable = [loss for loss in losses if math.isfinite(loss)]
    if len(usable) < 2:
        assert drawn is None
        return
    assert drawn is not None
    points = [tuple(map(float, pair.split(","))) for pair in re.split(r"[ML ]+", drawn.path) if pair]
    assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[-1][0] == drawn.width
    assert 0 <= drawn.last_y <= drawn.height
    assert len(points) <= 4 * drawn.width + 2
    assert drawn.steps == len(losses)
    assert float(drawn.last) == pytest.approx(usable[-1], abs=6e-4)


def test_falling_losses_fall_on_the_page() -> None:
    drawn = curve([4.0, 2.0, 1.0, 0.0])
    assert drawn is not None
    heights = [float(pair.split(",")[1]) for pair in drawn.path[1:].split(" L")]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (0, drawn.height)
    assert (drawn.top, drawn.bottom) == ("4.00", "0")


def test_losses_of_zero_are_a_line_at_the_bottom() -> None:
    drawn = curve([0.0, 0.0, 0.0])
    assert drawn is not None
    assert drawn.last_y == drawn.height


@pytest.mark.parametrize(
    ("value", "text"),
    [(8 / 255, "8/255"), (0.0, "0/255"), (1.0, "255/255"), (0.02, "5.10/255"), (2.5, "637.50/255")],
)
def test_distances_are_parts_of_255(value: float, text: str) -> None:
    assert fraction(value) == text


@pytest.mark.parametrize(
    ("k", "n", "text"),
    [(199, 200, "99.5\u00a0%"), (200, 200, "100\u00a0%"), (0, 200, "0\u00a0%"), (1, 3, "33\u00a0%"), (0, 0, "unknown")],
)
def test_a_rate_never_looks_like_all_or_none_when_it_is_not(k: int, n: int, text: str) -> None:
    assert percent(Rate.of(k, n)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        ([], "none"),
        ({}, "none"),
        (["a", None, 3], "a \u00b7 none \u00b7 3"),
        ({"epsilon": 8 / 255, "norm": "linf"}, "epsilon 8/255, norm linf"),
        (0.5, "0.5"),
        (True, "True"),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (-1e300, "-1e+300"),
    ],
)
def test_values_of_a_recipe_in_one_line(value: object, text: str) -> None:
    assert plain(value) == text
