"""The two-axis plot of a frontier: points with both intervals and the line of the front, in the units of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

from equipoise.audit.frontier.document import FrontierRow
from equipoise.report.audit.numbers import interval, percent

WIDTH, HEIGHT = 600, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 30, 14, 62
"""Margins, in the plot's units."""
COLOURS: Final = 6
LEAST: Final = 0.1
"""The axes reach at least so far."""
LABEL: Final = 17
"""Height of a label."""
LETTER: Final = 7.4
"""Width of a letter of a label, rather too wide than too narrow."""
LONGEST: Final = 34
"""Letters of a label; what is longer is cut, as the whole name stands in the table."""
DOT: Final = 7.0
"""Half the width of a point with some room."""
AROUND: Final = tuple((side, dx, dy) for radius in (13, 28, 43, 60, 80, 100) for side, dx, dy in (
    (1, radius, 0), (-1, -radius, 0), (1, radius, -radius), (1, radius, radius), (-1, -radius, -radius),
    (-1, -radius, radius), (1, -DOT, -radius - 5), (1, -DOT, radius + 5),
))  # fmt: skip
"""Where the label of a point may stand, in order of preference; 1 where it begins there, -1 where it ends."""

PlotBox = tuple[float, float, float, float]
"""Left, top, right and bottom of what is drawn."""


@dataclass(frozen=True)
class FrontTick:
    """A mark of an axis."""

    at: float
    """Position along the axis."""
    text: str
    """Its rate."""


@dataclass(frozen=True)
class FrontPoint:
    """A variant in the plot."""

    number: int
    """As in the table."""
    look: int
    """Colour, counted from 0."""
    x: float
    """Needless refusals."""
    y: float
    """Harmful answers, from the top."""
    left: float
    """Lower end of the horizontal interval."""
    right: float
    """Its upper end."""
    low: float
    """Lower end of the vertical interval: further down."""
    high: float
    """Its upper end."""
    label_x: float
    """Where the label begins, or ends."""
    label_y: float
    """Its middle."""
    label_begins: bool
    """Whether the label begins at `label_x`."""
    label: str
    """Name of the variant, perhaps cut; empty where there is room for the number alone."""
    solid: bool
    """Whether it is on the front in at least half of the resamples."""
    words: str
    """Both rates in a sentence, for who points at it."""


@dataclass(frozen=True)
class FrontPlot:
    """The whole plot."""

    points: tuple[FrontPoint, ...]
    """Variants with both axes known."""
    line: str
    """Path of the front of the measured points: a staircase, since everything above and right of it is dominated."""
    x_ticks: tuple[FrontTick, ...]
    """Of needless refusals."""
    y_ticks: tuple[FrontTick, ...]
    """Of harmful answers."""
    width: int = WIDTH
    """Of the drawing."""
    height: int = HEIGHT
    """Of the drawing."""
    left: int = LEFT
    """Where the frame begins."""
    right: int = WIDTH - RIGHT
    """Where it ends."""
    top: int = TOP
    """Where it begins."""
    bottom: int = HEIGHT - BOTTOM
    """Where it ends."""


def draw_front(rows: Sequence[FrontierRow]) -> FrontPlot:
    """The plot of rows; a row's number is its index.

    The axes end at the largest end of an interval, not at 100 %: mitigations of one model often differ by a few points.
    """
    shown = [
        (number, row)
        for number, row in enumerate(rows)
        if row.needless.rate is not None and row.harmful.rate is not None
    ]
    across = _reach([row.needless.high for _, row in shown])
    up = _reach([row.harmful.high for _, row in shown])

    def x(rate: float) -> float:
        return round(LEFT + rate / across * (WIDTH - LEFT - RIGHT), 2)

    def y(rate: float) -> float:
        return round(HEIGHT - BOTTOM - rate / up * (HEIGHT - TOP - BOTTOM), 2)

    centres = [(x(row.needless.rate or 0.0), y(row.harmful.rate or 0.0)) for _, row in shown]
    taken: list[PlotBox] = [(cx - DOT, cy - DOT, cx + DOT, cy + DOT) for cx, cy in centres]
    points = []
    for (number, row), (cx, cy) in zip(shown, centres, strict=True):
        name = row.name if len(row.name) <= LONGEST else row.name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
        spot = _free_spot(cx, cy, len(f"{number} {name}") * LETTER, taken)
        if spot is None:
            name, spot = "", _free_spot(cx, cy, len(str(number)) * LETTER, taken)
        side, label_x, label_y, box = spot or (1, cx + DOT, cy - DOT, (cx, cy, cx, cy))
        taken.append(box)
        points.append(
            FrontPoint(
                number=number,
                look=number % COLOURS,
                x=cx,
                y=cy,
                left=x(row.needless.low),
                right=x(row.needless.high),
                low=y(row.harmful.low),
                high=y(row.harmful.high),
                label_x=label_x,
                label_y=label_y,
                label_begins=side == 1,
                label=name,
                solid=row.membership is not None and row.membership.share >= 0.5,
                words=(
                    f"{number} {row.name}: needless refusals {percent(row.needless.rate)} ({interval(row.needless)}), "
                    f"harmful answers {percent(row.harmful.rate)} ({interval(row.harmful)})"
                ),
            )
        )
    front = [row for _, row in shown if row.membership is not None and row.membership.on_front]
    corners = sorted({(row.needless.rate or 0.0, row.harmful.rate or 0.0) for row in front})
    return FrontPlot(tuple(points), _staircase([(x(a), y(b)) for a, b in corners]), _ticks(across, x), _ticks(up, y))


def _reach(ends: Sequence[float]) -> float:
    """Where an axis ends: the largest value, rounded up to the next ten per cent."""
    return min(max(ceil(10 * max(ends, default=LEAST) + 0.2) / 10, LEAST), 1.0)


def _ticks(reach: float, at: object) -> tuple[FrontTick, ...]:
    assert callable(at)
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if reach / step <= 6)
    count = int(reach / step + 1e-9)
    return tuple(FrontTick(at(i * step), f"{100 * i * step:.0f}\N{NO-BREAK SPACE}%") for i in range(count + 1))


def _staircase(corners: Sequence[tuple[float, float]]) -> str:
    """From the top of the plot down to the first corner, then right and down from corner to corner, then right."""
    if not corners:
        return ""
    parts = [f"M{corners[0][0]},{TOP} L{corners[0][0]},{corners[0][1]}"]
    for (_, above), (across, below) in pairwise(corners):
        parts.append(f"L{across},{above} L{across},{below}")
    return " ".join([*parts, f"L{WIDTH - RIGHT},{corners[-1][1]}"])


def _free_spot(x: float, y: float, width: float, taken: Sequence[PlotBox]) -> tuple[int, float, float, PlotBox] | None:
    """The first place for a label around a point that is inside the frame and covers nothing; None if there is none.

    Returns:
        1 where the label begins at the place and -1 where it ends, the place, and what the label covers.
    """
    for side, dx, dy in AROUND:
        at, middle = x + dx, y + dy
        box = (min(at, at + side * width), middle - LABEL / 2, max(at, at + side * width), middle + LABEL / 2)
        inside = box[0] > LEFT + 2 and box[2] < WIDTH - 2 and box[1] > TOP and box[3] < HEIGHT - BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            return side, at, middle, box
    return None


def _overlap(one: PlotBox, two: PlotBox) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
