"""A strip folded into a page: every pixel is on it once, and places on the page lead back into the strip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from equipoise.guard.folded_strip import LONGEST, folded, is_strip, piece_starts


def noise(height: int, width: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(10, 1000), (1000, 10), (1, 5000), (37, 151), (400, 2000)])
def test_places_on_the_page_lead_back_into_the_strip(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    strip = folded(pixels)
    height, width = strip.page.shape[:2]
    assert not is_strip(width, height)
    covered = set()
    for number, start in enumerate(strip.starts):
        end = [*strip.starts[1:], max(size)][number]
        for along in {start, (start + end) // 2, end - 1}:
            across = min(size) // 2
            spot = (along - start, number * strip.step + across)
            x, y = spot[::-1] if strip.is_upright else spot
            ((back_x, back_y),) = strip.in_strip([(x, y)])
            assert (strip.page[y, x] == pixels[int(back_y), int(back_x)]).all()
            covered.add(along)
    assert {0, max(size) - 1} <= covered


def test_a_strip_is_cut_where_it_is_empty() -> None:
    strip = np.zeros((10, 100, 3), dtype=np.uint8)
    strip[::2] = 255
    strip[:, 34:40] = 255
    strip[:, 32] = 255
    assert piece_starts(strip, 40)[:2] == [0, 37]


@pytest.mark.parametrize("length", [41, 80, 399, 4000])
def test_pieces_are_never_longer_than_they_may_be(length: int) -> None:
    for strip in (noise(3, length), np.zeros((3, length, 3), dtype=np.uint8)):
        starts = piece_starts(strip, 40)
        assert starts[0] == 0
        assert all(0 < step <= 40 for step in np.diff([*starts, length]))


def test_ordinary_pictures_are_no_strips() -> None:
    assert not is_strip(1920, 1080)
    assert not is_strip(400, 100)
    assert is_strip(100, int(100 * LONGEST) + 1)
