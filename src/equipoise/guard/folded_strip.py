"""`FoldedStrip`: a long and narrow picture as a page of ordinary proportions, so that its text can be read.

The engine that reads pictures enlarges the shorter side of each picture to some hundred pixels: of a strip of
10 x 1,000 pixels that makes a picture of 50 million. A strip is cut into pieces at its emptiest spots, and the pieces
lie below one another on the page (of a strip that is higher than wide: beside one another).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST: Final = 4.0
"""Times that the longer side of a picture may be as long as the shorter one before it is folded."""
_SLACK: Final = 0.25
"""Part of a piece, at its end, in which the spot is looked for where it is cut."""
_ALIKE: Final = 12
"""Levels of grey by which the pixels of an empty spot may differ."""

Point = tuple[float, float]


@dataclass(frozen=True)
class FoldedStrip:
    """A page with the pieces of a strip."""

    page: NDArray[np.uint8]
    """Height, width, colours."""
    starts: tuple[int, ...]
    """Where each piece begins, along the strip."""
    step: int
    """Pixels from one piece to the next, across the strip."""
    is_upright: bool
    """Whether the strip is higher than wide."""

    def in_strip(self, box: Sequence[Sequence[float]]) -> list[Point]:
        """The corners of a text on the page as they lie in the strip.

        Args:
            box: points (x, y) in pixels of the page.
        """
        points = [(float(x), float(y)) for x, y in box]
        if self.is_upright:
            points = [(y, x) for x, y in points]
        middle = sum(across for _, across in points) / len(points)
        number = min(max(0, int(middle // self.step)), len(self.starts) - 1)
        moved = [(along + self.starts[number], across - number * self.step) for along, across in points]
        return [(across, along) for along, across in moved] if self.is_upright else moved


def is_strip(width: int, height: int) -> bool:
    """Whether a picture is too long and narrow to be read as it is."""
    return max(width, height) > LONGEST * min(width, height)


def folded(pixels: NDArray[np.uint8]) -> FoldedStrip:
    """A strip as a page that is about square.

    Args:
        pixels: height, width, colours.
    """
    is_upright = pixels.shape[0] > pixels.shape[1]
    strip = pixels.swapaxes(0, 1) if is_upright else pixels
    height, length = strip.shape[:2]
    gap = max(1, height // 2)
    count = max(2, round(math.sqrt(length / (height + gap))))
    longest = math.ceil(length / count / (1 - _SLACK / 2))
    starts = piece_starts(strip, longest)
    step = height + gap
    # The gaps have the colour of most pixels, so that no edge is taken for a letter.
    sample = strip[:, :: max(1, length // 1000)].reshape(-1, strip.shape[2])
    page: NDArray[np.uint8] = np.empty((step * len(starts), longest, strip.shape[2]), dtype=np.uint8)
    page[:] = np.median(sample, axis=0).astype(np.uint8)
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], length], strict=True)):
        page[number * step : number * step + height, : end - start] = strip[:, start:end]
    return FoldedStrip(page.swapaxes(0, 1) if is_upright else page, tuple(starts), step, is_upright)


def piece_starts(strip: NDArray[np.uint8], longest: int) -> list[int]:
    """Where the pieces begin: each is cut in the middle of the widest empty spot near its end."""
    grey = strip.mean(axis=2)
    is_empty = np.ptp(grey, axis=0) <= _ALIKE
    starts, length = [0], strip.shape[1]
    while length - starts[-1] > longest:
        last = starts[-1] + longest
        first = last - int(longest * _SLACK)
        starts.append(first + _middle_of_widest(is_empty[first:last]) if last > first else last)
    return starts


def _middle_of_widest(is_empty: NDArray[Any]) -> int:
    """The middle of the longest run of empty columns; the end where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_empty.astype(np.int8), [0]))))
    if not len(edges):
        return len(is_empty)
    begins, ends = edges[::2], edges[1::2]
    widest = int(np.argmax(ends - begins))
    return max(1, int(begins[widest] + ends[widest]) // 2)
