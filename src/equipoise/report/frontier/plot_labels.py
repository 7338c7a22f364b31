"""Where the names of points stand in a plot: near their point, over nothing else, one below the other at one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LABEL: Final = 17
"""Height of a line of a label."""
LETTER: Final = 7.4
"""Width of a letter of a label, rather too wide than too narrow."""
LONGEST: Final = 34
"""Letters of a name; what is longer is cut, as the whole name stands in the table."""
DOT: Final = 7.0
"""Half the width of a point with some room."""
SAME: Final = 6.0
"""Points that are nearer in both directions share one block of lines."""
CROSSED: Final = 5
"""What a crossed interval costs, in places further down the list of `AROUND`."""
AROUND: Final = tuple((side, dx, dy) for radius in (13, 28, 43, 60, 80, 100) for side, dx, dy in (
    (1, radius, 0), (-1, -radius, 0), (1, radius, -radius), (1, radius, radius), (-1, -radius, -radius),
    (-1, -radius, radius), (1, -DOT, -radius - 5), (1, -DOT, radius + 5),
))  # fmt: skip
"""Where the label of a point may stand, in order of preference; 1 where it begins there, -1 where it ends."""

PlotBox = tuple[float, float, float, float]
"""Left, top, right and bottom of what is drawn."""


@dataclass(frozen=True)
class PointName:
    """A point that wants a label."""

    number: int
    """As in the table."""
    name: str
    """Of the variant."""
    x: float
    """Of the point."""
    y: float
    """Of the point, from the top."""

    @property
    def text(self) -> str:
        """The name without `prompt:`, which many share, and cut where it is too long."""
        name = self.name.replace("prompt:", "")
        return name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class PlacedLabel:
    """The label of one point."""

    x: float
    """Where it begins, or ends."""
    y: float
    """Its middle."""
    begins: bool
    """Whether it begins at `x`."""
    text: str
    """The name, perhaps cut; empty where there is room for the number alone."""
    is_first: bool
    """Whether a line leads to it from the point: to the first line of a block only."""


class _LabelPlan:
    """Labels that are placed one after the other.

    Args:
        frame: what labels stay inside.
        bars: lines that labels cross only where they must.
        points: all, which no label covers.
    """

    def __init__(self, frame: PlotBox, bars: Sequence[PlotBox], points: Sequence[PointName]) -> None:
        self._frame, self._bars = frame, bars
        self._taken: list[PlotBox] = [(p.x - DOT, p.y - DOT, p.x + DOT, p.y + DOT) for p in points]

    def stacked(self, group: Sequence[PointName], *, named: bool = True) -> list[PlacedLabel] | None:
        """One line for each of the points, at the best free place around the first; None if there is none."""
        texts = [point.text if named else "" for point in group]
        lines = [f"{point.number} {text}".strip() for point, text in zip(group, texts, strict=True)]
        width, height = max(map(len, lines)) * LETTER, LABEL * len(group)
        x, y = group[0].x, group[0].y
        free = []
        for rank, (side, dx, dy) in enumerate(AROUND):
            # The line that is nearest to the point stands at the place; a block above a point grows upwards.
            top = y + dy - LABEL / 2 if dy >= 0 else y + dy + LABEL / 2 - height
            box = (min(x + dx, x + dx + side * width), top, max(x + dx, x + dx + side * width), top + height)
            if self._is_inside(box) and not any(_overlap(box, other) for other in self._taken):
                crossed = sum(_overlap(box, bar) for bar in self._bars)
                free.append((rank + CROSSED * crossed, rank, side, x + dx, top, box))
        if not free:
            return None
        _, _, side, at, top, box = min(free)
        self._taken.append(box)
        nearest = 0 if top + height / 2 >= y else len(group) - 1
        return [
            PlacedLabel(at, top + LABEL * (line + 0.5), side == 1, text, line == nearest)
            for line, text in enumerate(texts)
        ]

    def _is_inside(self, box: PlotBox) -> bool:
        left, top, right, bottom = self._frame
        return box[0] > left and box[2] < right and box[1] > top and box[3] < bottom


def place_labels(points: Sequence[PointName], frame: PlotBox, bars: Sequence[PlotBox]) -> list[PlacedLabel]:
    """A label for every point, in their order.

    Args:
        points: with their names.
        frame: what labels stay inside.
        bars: lines, as boxes without width, that labels cross only where they must.
    """
    plan = _LabelPlan(frame, bars, points)
    placed: dict[int, PlacedLabel] = {}
    for group in _groups(points):
        block = plan.stacked(group)
        for rank, point in enumerate(group):
            alone = [block[rank]] if block else plan.stacked([point]) or plan.stacked([point], named=False)
            placed[point.number] = alone[0] if alone else PlacedLabel(point.x + DOT, point.y - DOT, True, "", True)
    return [placed[point.number] for point in points]


def _groups(points: Sequence[PointName]) -> list[list[PointName]]:
    """Points at the same place, as far as one can see, together."""
    groups: list[list[PointName]] = []
    for point in points:
        near = (g for g in groups if abs(g[0].x - point.x) < SAME and abs(g[0].y - point.y) < SAME)
        group = next(near, None)
        if group is None:
            groups.append([point])
        else:
            group.append(point)
    return groups


def _overlap(one: PlotBox, two: PlotBox) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
