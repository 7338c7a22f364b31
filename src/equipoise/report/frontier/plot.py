"""The two-axis plot of a frontier: points with both intervals and the line of the front, in the units of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

from equipoise.audit.frontier.document import FrontierRow
from equipoise.report.audit.numbers import interval, percent
from equipoise.report.frontier.plot_labels import PlacedLabel, PointName, place_labels

WIDTH, HEIGHT = 600, 500
LEFT, RIGHT, TOP, BOTTOM = 72, 30, 14, 62
"""Margins, in the plot's units."""
COLOURS: Final = 6
LEAST: Final = 0.1
"""The axes reach at least so far."""


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
    label: PlacedLabel
    """Its name, and where that stands."""
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

    names = [PointName(n, r.name, x(r.needless.rate or 0.0), y(r.harmful.rate or 0.0)) for n, r in shown]
    bars = [
        bar
        for name, (_, row) in zip(names, shown, strict=True)
        for bar in (
            (x(row.needless.low), name.y, x(row.needless.high), name.y),
            (name.x, y(row.harmful.high), name.x, y(row.harmful.low)),
        )
    ]
    labels = place_labels(names, (LEFT + 2, TOP, WIDTH - 2, HEIGHT - BOTTOM), bars)
    points = [
        FrontPoint(
            number=name.number,
            look=name.number % COLOURS,
            x=name.x,
            y=name.y,
            left=across_bar[0],
            right=across_bar[2],
            low=up_bar[3],
            high=up_bar[1],
            label=label,
            solid=row.membership is not None and row.membership.share >= 0.5,
            words=(
                f"{name.number} {row.name}: needless refusals {percent(row.needless.rate)} ({interval(row.needless)}), "
                f"harmful answers {percent(row.harmful.rate)} ({interval(row.harmful)})"
            ),
        )
        for name, (_, row), label, across_bar, up_bar in zip(names, shown, labels, bars[::2], bars[1::2], strict=True)
    ]
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
