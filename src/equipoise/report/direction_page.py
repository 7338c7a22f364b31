"""The page of a measured direction: layer profile, dose-response and both axes, in one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from equipoise import __version__
from equipoise.files import write_whole
from equipoise.report.audit import numbers

if TYPE_CHECKING:
    from equipoise.steering.measurement import DirectionMeasurement

WIDTH, HEIGHT, MARGIN = 560, 260, 46
"""Of a plot, in its own units."""


@dataclass(frozen=True)
class PlotTick:
    """A mark of an axis."""

    at: float
    """Position along the axis, in the plot's units."""
    text: str
    """What is written there."""


@dataclass(frozen=True)
class PlottedDot:
    """A measured value with the ends of its intervals, in the plot's units."""

    x: float
    """Horizontal position."""
    y: float
    """Vertical position, from the top."""
    low: float
    """Vertical position of the lower end of the interval."""
    high: float
    """Vertical position of its upper end."""
    left: float
    """Horizontal position of the lower end of the horizontal interval; `x` where there is none."""
    right: float
    """Horizontal position of the upper end."""
    words: str
    """The values in a sentence, for who points at it."""


@dataclass(frozen=True)
class PlottedSeries:
    """Dots of one kind, joined by a line."""

    name: str
    """What they are."""
    look: int
    """Colour, counted from 0."""
    dots: tuple[PlottedDot, ...]
    """From left to right."""

    @property
    def path(self) -> str:
        """Points of an SVG polyline."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


@dataclass(frozen=True)
class DirectionPlot:
    """One plot."""

    title: str
    """What it shows, for readers without the picture."""
    across: str
    """Label of the horizontal axis."""
    up: str
    """Label of the vertical axis."""
    x_ticks: tuple[PlotTick, ...]
    """Marks of the horizontal axis."""
    y_ticks: tuple[PlotTick, ...]
    """Marks of the vertical axis."""
    series: tuple[PlottedSeries, ...]
    """What was measured."""
    joined: bool = True
    """Whether dots of a series are joined."""


def render(measurement: DirectionMeasurement, *, found_with: Sequence[str] = ()) -> str:
    """The page as HTML, everything inlined.

    Args:
        measurement: what was measured.
        found_with: sets of prompts that the direction was also found with.
    """
    environment = Environment(
        loader=PackageLoader("equipoise.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["interval"] = numbers.interval
    environment.filters["percent"] = numbers.percent
    environment.filters["counts"] = numbers.counts
    environment.filters["points"] = numbers.points
    return environment.get_template("direction.html").render(
        measurement=measurement,
        sets=list(measurement.counts),
        plots={"layers": layer_plot(measurement), "dose": dose_plot(measurement), "plane": plane_plot(measurement)},
        found_with=found_with,
        cost=measurement.to_dict()["cost"],
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        version=__version__,
        style=_style(),
    )


def write(measurement: DirectionMeasurement, folder: Path, *, found_with: Sequence[str] = ()) -> Path:
    """Write `folder/measure.html`, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = folder / "measure.html"
    write_whole(page, render(measurement, found_with=found_with))
    return page


def layer_plot(measurement: DirectionMeasurement) -> DirectionPlot:
    """AUROC of each pair of prompt sets by layer."""
    last = max(len(measurement.layers) - 1, 1)
    series = []
    kinds = (
        ("harmful against harmless", "harmful"),
        ("looks harmful against harmless", "pseudo"),
        ("harmful against looks harmful", "contrast"),
    )
    for look, (name, key) in enumerate(kinds):
        values = [(layer.layer, getattr(layer, key)) for layer in measurement.layers]
        dots = tuple(
            _dot(layer / last, value, f"layer {layer}: {name} {value:.3f}")
            for layer, value in values
            if value is not None
        )
        if dots:
            series.append(PlottedSeries(name, look, dots))
    step = max(1, len(measurement.layers) // 8)
    ticks = tuple(PlotTick(_x(layer / last), str(layer)) for layer in range(0, last + 1, step))
    shares = tuple(PlotTick(_y(value), f"{value:g}") for value in (0, 0.25, 0.5, 0.75, 1))
    return DirectionPlot("Separation along the direction by layer", "layer", "AUROC", ticks, shares, tuple(series))


def dose_plot(measurement: DirectionMeasurement) -> DirectionPlot:
    """Refusals of each set by the coefficient of an addition; 0 is the plain model."""
    plain = next(part for part in measurement.conditions if part.name == "plain")
    doses = sorted([(0.0, plain), *((part.coefficient or 0.0, part) for part in measurement.dose)], key=lambda d: d[0])
    low, high = doses[0][0], max(doses[-1][0], doses[0][0] + 1e-9)
    series = []
    for look, name in enumerate(measurement.counts):
        dots = []
        for coefficient, part in doses:
            rate = part.rates[name]
            if rate.rate is not None:
                words = f"coefficient {coefficient:g}: {name} {numbers.percent(rate.rate)} ({numbers.interval(rate)})"
                dots.append(_dot((coefficient - low) / (high - low), rate.rate, words, rate.low, rate.high))
        if dots:
            series.append(PlottedSeries(name.replace("_", " "), look, tuple(dots)))
    ticks = tuple(PlotTick(_x((dose - low) / (high - low)), f"{dose:g}") for dose, _ in doses)
    return DirectionPlot(
        "Refusals by coefficient", "coefficient of the addition", "refused", ticks, _percent_ticks(), tuple(series)
    )


def plane_plot(measurement: DirectionMeasurement) -> DirectionPlot:
    """Both axes: needless refusals against harmful prompts that are not refused, one dot for each edit."""
    safe = "pseudo_harmful" if "pseudo_harmful" in measurement.counts else "harmless"
    series = []
    for look, part in enumerate(measurement.conditions):
        needless, harmful = part.rates[safe], part.rates["harmful"]
        if needless.rate is None or harmful.rate is None:
            continue
        words = (
            f"{part.name}: {numbers.percent(needless.rate)} of {safe.replace('_', '-')} prompts refused, "
            f"{numbers.percent(1 - harmful.rate)} of harmful prompts not refused"
        )
        dot = PlottedDot(
            _x(needless.rate),
            _y(1 - harmful.rate),
            # 1 - x turns an interval around: its low end is that of the highest rate of refusals.
            _y(1 - harmful.high),
            _y(1 - harmful.low),
            _x(needless.low),
            _x(needless.high),
            words,
        )
        series.append(PlottedSeries(part.name, look, (dot,)))
    across = tuple(PlotTick(_x(value), f"{100 * value:g}\N{NO-BREAK SPACE}%") for value in (0, 0.25, 0.5, 0.75, 1))
    return DirectionPlot(
        "Both axes",
        f"{safe.replace('_', '-')} prompts refused",
        "harmful prompts not refused",
        across,
        _percent_ticks(),
        tuple(series),
        joined=False,
    )


def _percent_ticks() -> tuple[PlotTick, ...]:
    return tuple(PlotTick(_y(value), f"{100 * value:g}\N{NO-BREAK SPACE}%") for value in (0, 0.25, 0.5, 0.75, 1))


def _dot(x: float, y: float, words: str, low: float | None = None, high: float | None = None) -> PlottedDot:
    across = _x(x)
    return PlottedDot(
        across, _y(y), _y(y if low is None else low), _y(y if high is None else high), across, across, words
    )


def _x(share: float) -> float:
    return round(MARGIN + share * (WIDTH - MARGIN - 16), 2)


def _y(share: float) -> float:
    # SVG counts from the top.
    return round(12 + (1 - share) * (HEIGHT - MARGIN - 12), 2)


def _style() -> str:
    from importlib.resources import files

    return files("equipoise.report").joinpath("audit/style.css").read_text(encoding="utf-8")
