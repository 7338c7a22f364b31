"""The two-axis plot: harmful answers against needless refusals, as SVG that takes its colours from the page."""

from __future__ import annotations

import io
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from markupsafe import Markup

from equipoise.report.audit.numbers import interval, percent
from equipoise.report.audit.untrusted_text import visible
from equipoise.stats.proportions import Rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = 6
"""Variants that look different; more take the same looks again."""
MARKERS: Final = "oDs^vP"
"""Shapes in matplotlib's letters, so that colour is never the only difference."""
# matplotlib writes colours as they are given. These codes occur nowhere else, so they can be replaced in the finished
# SVG by the page's own variables, which differ between light and dark mode.
_INK_NAMES: Final = {"#0a0a01": "ink", "#0a0a02": "soft", "#0a0a03": "line", "#0a0a04": "good", "#0a0a05": "card"}
INK: Final = {name: code for code, name in _INK_NAMES.items()}
VARIANT_COLOURS: Final = {f"#0a0b{number:02x}": f"v{number}" for number in range(COLOURS)}
_SVG: Final = "{http://www.w3.org/2000/svg}"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class PlotPoint:
    """Something measured on both axes."""

    name: str
    """What is written beside it."""
    refusal: Rate
    """Needless refusals: the horizontal axis."""
    harm: Rate
    """Harmful answers: the vertical axis."""
    look: int = 0
    """Which colour and shape, counted from 0."""
    before: PlotPoint | None = None
    """Where it was in an earlier run; an arrow leads from there."""

    @property
    def drawable(self) -> bool:
        """Whether both axes are known."""
        return self.refusal.rate is not None and self.harm.rate is not None

    @property
    def words(self) -> str:
        """The point in one sentence."""
        return (
            f"{self.name}: needless refusals {percent(self.refusal.rate)} ({interval(self.refusal)}, "
            f"n {self.refusal.n}), harmful answers {percent(self.harm.rate)} ({interval(self.harm)}, n {self.harm.n})"
        )


def draw(points: Sequence[PlotPoint], faint: Sequence[PlotPoint] = ()) -> Markup:
    """The plot as inline SVG; equal input gives equal bytes.

    Args:
        points: variants, with both intervals as error bars.
        faint: suites, as small points.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A user's own matplotlibrc must not change the page.
    settings: Any = dict(matplotlib.rcParamsDefault)
    settings |= {"svg.fonttype": "none", "svg.hashsalt": "equipoise", "font.family": "DejaVu Sans", "font.size": 12}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has the letters that this font lacks: it is only measured here.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(5.6, 5.35), dpi=72)
        axes = figure.add_axes((0.165, 0.12, 0.785, 0.86))
        _frame(axes)
        for number, point in enumerate(part for part in faint if part.drawable):
            _faint(axes, point, f"faint-{number}")
        shown = [point for point in points if point.drawable]
        for number, point in enumerate(shown):
            _point(axes, point, f"point-{number}")
        renderer = FigureCanvasAgg(figure).get_renderer()
        _captions(renderer, axes, _label(renderer, axes, shown, [part for part in faint if part.drawable]))
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    titles = {f"point-{number}": point.words for number, point in enumerate(shown)}
    titles |= {f"faint-{number}": part.words for number, part in enumerate(part for part in faint if part.drawable)}
    words = ". ".join(titles[name] for name in titles if name.startswith("point")) or "No point."
    heading = "Harmful-answer rate against needless-refusal rate, each with its 95 % interval"
    return inline_svg(file.getvalue(), titles, "plane", heading, words)


def _frame(axes: Axes) -> None:
    # A little more than 0 to 100, so that a point in a corner is not cut in half; always the same, so that plots of two
    # runs can be laid side by side.
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    for side in axes.spines.values():
        side.set_visible(False)
    ticks = [0, 20, 40, 60, 80, 100]
    names = [f"{tick}\N{NO-BREAK SPACE}%" if tick else "0" for tick in ticks]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0, labelcolor=INK["soft"], pad=2)
    axes.grid(color=INK["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("needless refusals  \N{RIGHTWARDS ARROW}  worse", color=INK["ink"], labelpad=5)
    axes.set_ylabel("harmful answers  \N{RIGHTWARDS ARROW}  worse", color=INK["ink"], labelpad=4)
    good: dict[str, Any] = {"color": INK["good"], "linewidth": 0}
    for size, alpha in ((24, 0.10), (12, 0.14)):
        axes.fill([0, size, size, 0], [0, 0, size, size], alpha=alpha, zorder=0.5, **good)


def _captions(renderer: Any, axes: Axes, taken: Sequence[Any]) -> None:
    """Say what the corners mean, where nothing that was measured is in the way."""
    for words, x, y, across, up, colour in _CORNERS:
        text = axes.text(x, y, words, ha=across, va=up, color=INK[colour], fontsize=11, zorder=1.5, parse_math=False)
        if any(text.get_window_extent(renderer).overlaps(box) for box in taken):
            text.remove()


_CORNERS: Final = (
    ("ideal", 12, 12.6, "center", "bottom", "good"),
    ("refuses everything", 99, 1, "right", "bottom", "soft"),
    ("answers everything", 1, 99, "left", "top", "soft"),
    ("wrong both ways", 99, 99, "right", "top", "soft"),
)
"""Text, position, horizontal and vertical alignment, and colour."""


def _position(point: PlotPoint) -> tuple[float, float]:
    return 100 * (point.refusal.rate or 0.0), 100 * (point.harm.rate or 0.0)


def _bars(axes: Axes, point: PlotPoint, colour: str, **look: Any) -> None:
    x, y = _position(point)
    axes.plot([100 * point.refusal.low, 100 * point.refusal.high], [y, y], color=colour, **look)
    axes.plot([x, x], [100 * point.harm.low, 100 * point.harm.high], color=colour, **look)


def _faint(axes: Axes, point: PlotPoint, name: str) -> None:
    x, y = _position(point)
    axes.plot([x], [y], "o", color=INK["soft"], alpha=0.55, markersize=4, markeredgewidth=0, zorder=2, gid=name)


def _point(axes: Axes, point: PlotPoint, name: str) -> None:
    colour = list(VARIANT_COLOURS)[point.look % COLOURS]
    if point.before is not None and point.before.drawable:
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 4, "shrinkB": 7, "alpha": 0.8}
        axes.annotate("", _position(point), _position(point.before), arrowprops=arrow, zorder=2.5)
        _bars(axes, point.before, colour, linewidth=0.9, alpha=0.5, zorder=2.4, solid_capstyle="butt")
        axes.plot(
            *([value] for value in _position(point.before)),
            MARKERS[point.look % COLOURS],
            markerfacecolor=INK["card"],
            markeredgecolor=colour,
            markersize=6,
            zorder=2.6,
        )
    _bars(axes, point, colour, linewidth=1.8, zorder=3, solid_capstyle="butt")
    axes.plot(
        *([value] for value in _position(point)),
        MARKERS[point.look % COLOURS],
        color=colour,
        markersize=9,
        markeredgecolor=INK["card"],
        markeredgewidth=1.2,
        zorder=4,
        gid=name,
        clip_on=False,
    )


def _label(renderer: Any, axes: Axes, points: Sequence[PlotPoint], faint: Sequence[PlotPoint]) -> list[Any]:
    """Write each name at the first of some places where it covers neither a point, a bar nor another name.

    Names of variants come with the scored cases of both axes; names of suites that find no room are left to tooltips.

    Returns:
        The boxes that are taken then.
    """
    both = [*points, *(point.before for point in points if point.before is not None)]
    taken = [box for point in both if point.drawable for box in _boxes(axes, point)]
    frame = axes.get_window_extent(renderer)
    for point in (*points, *faint):
        is_variant = any(point is other for other in points)
        name = str(visible(point.name))[:30]
        text = axes.annotate(
            f"{name} (n {point.refusal.n:,} and {point.harm.n:,})" if is_variant else name,
            _position(point),
            xytext=(9, 8),
            textcoords="offset points",
            color=list(VARIANT_COLOURS)[point.look % COLOURS] if is_variant else INK["soft"],
            fontsize=12 if is_variant else 10.5,
            fontweight="bold" if is_variant else "normal",
            zorder=5 if is_variant else 2.2,
            parse_math=False,
        )
        # In the order of the points: equal input gives equal places. If all are taken the last one stays.
        for across, up, side in _AROUND:
            text.set_horizontalalignment(side)
            text.set_position((across, up))
            box = text.get_window_extent(renderer)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            if not outside and not any(box.overlaps(other) for other in taken):
                break
        else:
            if not is_variant:
                text.remove()
                continue
        taken.append(text.get_window_extent(renderer))
    return taken


_Side = Literal["left", "right"]
_AROUND: Final[tuple[tuple[int, int, _Side], ...]] = (
    *((9, 7, "left"), (9, -15, "left"), (-9, 7, "right"), (-9, -15, "right")),
    *((9, 21, "left"), (9, -29, "left"), (-9, 21, "right"), (-9, -29, "right")),
    *((9, 35, "left"), (9, 49, "left"), (9, 63, "left"), (9, 7, "left")),
)
"""Where a name may stand: points to the right, points up, which side is held; the last is taken if none is free."""


def _boxes(axes: Axes, point: PlotPoint) -> list[Any]:
    """What a point and its two bars cover."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform(_position(point))
    left, low = axes.transData.transform((100 * point.refusal.low, 100 * point.harm.low))
    right, high = axes.transData.transform((100 * point.refusal.high, 100 * point.harm.high))
    mark = Bbox.from_extents(x - 5, y - 5, x + 5, y + 5)
    return [mark, Bbox.from_extents(left, y - 1, right, y + 1), Bbox.from_extents(x - 1, low, x + 1, high)]


def inline_svg(data: bytes, titles: Mapping[str, str], name: str, title: str, description: str) -> Markup:
    """SVG for the inside of HTML: no namespaces, no style attributes (the page allows none), colours by name.

    Args:
        data: what matplotlib wrote, in the colours of `INK` and `VARIANT_COLOURS`.
        titles: tooltips by the id of what they belong to.
        name: of the plot, unique on the page.
        title: what the plot shows.
        description: what it shows in words, for those who cannot see it.
    """
    # Parsed as XML, not cut as text: names of models and suites are untrusted, and stay escaped on the way out.
    root = ET.fromstring(data)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = str(element.tag).removeprefix(_SVG)
        _dress(element)
        words = titles.get(element.get("id", ""))
        if words is not None:
            tooltip = ET.Element("title")
            tooltip.text = str(visible(words))
            element.insert(0, tooltip)
    box = root.get("viewBox", "")
    root.attrib.clear()
    labels = f"{name}-title {name}-words"
    root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": labels, "class": "plane"})
    heading, text = ET.Element("title", id=f"{name}-title"), ET.Element("desc", id=f"{name}-words")
    heading.text, text.text = str(visible(title)), str(visible(description))
    root[:0] = [heading, text]
    return Markup(ET.tostring(root, encoding="unicode"))


def _dress(element: ET.Element) -> None:
    """Style attributes as presentation attributes, which a strict content security policy allows."""
    link = element.attrib.pop(_LINK, None)
    if link is not None:
        element.set("href", link)
    for part in element.attrib.pop("style", "").split(";"):
        name, _, value = part.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            # The page's own font; matplotlib says "700 10.5px 'DejaVu Sans'".
            element.set("font-size", next(word for word in value.split() if word.endswith("px")).removesuffix("px"))
            if value.split()[0] in ("700", "bold"):
                element.set("font-weight", "700")
        elif name and name != "font-family":
            element.set(name, value)
    for name in ("fill", "stroke"):
        value = element.get(name, "")
        if value in _INK_NAMES or value in VARIANT_COLOURS:
            element.set(name, f"var(--{_INK_NAMES.get(value) or VARIANT_COLOURS[value]})")
