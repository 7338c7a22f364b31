"""Plots over the depth of a begun reply, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from equipoise.report.audit.numbers import percent
from equipoise.report.audit.plot import COLOURS, INK, MARKERS, VARIANT_COLOURS, inline_svg

_COLOUR_CODES: Final = tuple(VARIANT_COLOURS)


@dataclass(frozen=True)
class DepthPoint:
    """A value at one depth, with its interval."""

    depth: int
    """Tokens that the reply had begun with."""
    value: float
    """In [0, 1]."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end."""


@dataclass(frozen=True)
class DepthLine:
    """A line of a plot."""

    name: str
    """What it is, for the description."""
    points: tuple[DepthPoint, ...]
    """From the shallowest on."""
    look: int = 0
    """Which colour and marker, counted from 0."""
    is_twin: bool = False
    """Whether it is about harmless answers; dashed, with hollow markers."""

    @property
    def words(self) -> str:
        """The line in one sentence."""
        values = ", ".join(f"{percent(point.value)} at depth {point.depth}" for point in self.points)
        return f"{self.name}: {values or 'no value'}"


def draw_depths(lines: Sequence[DepthLine], name: str, title: str, axis: str) -> Markup:
    """Rates at some depths, side by side, with error bars.

    Args:
        lines: what is drawn; equal input gives equal bytes.
        name: of the plot, unique on the page.
        title: what it shows.
        axis: name of the vertical axis.
    """
    depths = sorted({point.depth for line in lines for point in line.points})
    with _settings():
        figure, axes = _figure(axis)
        # Depths stand at equal distances: 0, 5 and 10 would otherwise cover each other beside 50.
        axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        axes.set_xlim(-0.3, len(depths) - 0.7)
        for number, line in enumerate(lines):
            # Moved apart a little, so that bars at the same height stay visible.
            shift = 0.05 * (number - (len(lines) - 1) / 2)
            places = [depths.index(point.depth) + shift for point in line.points]
            _bars(axes, line, places)
        return _finished(figure, lines, name, title)


def draw_curves(lines: Sequence[DepthLine], name: str, title: str, axis: str) -> Markup:
    """Curves over every depth, with their intervals as bands; arguments as of `draw_depths`."""
    with _settings():
        figure, axes = _figure(axis)
        for line in lines:
            colour = _COLOUR_CODES[line.look % COLOURS]
            depths = [point.depth for point in line.points]
            values = [100 * point.value for point in line.points]
            low, high = ([100 * getattr(point, end) for point in line.points] for end in ("low", "high"))
            axes.fill_between(depths, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(depths, values, color=colour, linewidth=1.8, linestyle="--" if line.is_twin else "-")
        return _finished(figure, lines, name, title)


def _bars(axes: Any, line: DepthLine, places: Sequence[float]) -> None:
    colour = _COLOUR_CODES[line.look % COLOURS]
    values = [100 * point.value for point in line.points]
    axes.plot(
        places,
        values,
        MARKERS[line.look % COLOURS],
        color=colour,
        linestyle="--" if line.is_twin else "-",
        linewidth=1.4,
        markersize=6,
        markerfacecolor=INK["card"] if line.is_twin else colour,
        markeredgecolor=colour,
        zorder=3,
        clip_on=False,
    )
    for across, point in zip(places, line.points, strict=True):
        axes.plot([across, across], [100 * point.low, 100 * point.high], color=colour, linewidth=1.2, zorder=2)


def _settings() -> Any:
    import matplotlib

    # A user's own matplotlibrc must not change the page.
    settings: Any = dict(matplotlib.rcParamsDefault)
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "equipoise", "font.family": "DejaVu Sans", "font.size": 10}
    return matplotlib.rc_context(settings)


def _figure(axis: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), dpi=72)
    axes = figure.add_axes((0.14, 0.165, 0.845, 0.8))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_ylim(-3, 103)
    ticks = [0, 20, 40, 60, 80, 100]
    axes.set_yticks(ticks, [f"{tick}\N{NO-BREAK SPACE}%" if tick else "0" for tick in ticks])
    axes.tick_params(length=0, labelcolor=INK["soft"], pad=2)
    axes.grid(color=INK["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("tokens that the reply had begun with", color=INK["ink"], labelpad=5)
    axes.set_ylabel(axis, color=INK["ink"], labelpad=4)
    return figure, axes


def _finished(figure: Any, lines: Sequence[DepthLine], name: str, title: str) -> Markup:
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # The metadata without date and creator, and the fixed `hashsalt` of the settings, make equal data equal bytes: a
    # page that is rendered again shows no differences in version control.
    return inline_svg(file.getvalue(), {}, name, title, ". ".join(line.words for line in lines))
