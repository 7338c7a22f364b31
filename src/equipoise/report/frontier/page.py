"""The page of a frontier: which mitigation to ship, what it costs, what is uncertain; one HTML file, offline."""

from __future__ import annotations

import base64
import hashlib
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment
from markupsafe import Markup

from equipoise import __version__
from equipoise.audit.frontier.advice import WORDS, FrontierAdvice, direction, rank
from equipoise.audit.frontier.description import describe
from equipoise.audit.frontier.document import Frontier, FrontierRow
from equipoise.audit.labels import AXES, RateName
from equipoise.files import write_whole
from equipoise.report.frontier.answer import costs, uncertainty
from equipoise.report.frontier.plot import FrontPlot, draw_front
from equipoise.report.templates import environment
from equipoise.stats.estimates import PairedChange

CHANGE_WORDS: Final = {
    -1: ("measurably lower", "good"),
    0: ("no measured change", "unsure"),
    1: ("measurably higher", "bad"),
}


@dataclass(frozen=True)
class ShownChange:
    """One axis of one row against the plain model."""

    axis: RateName
    """Which failure."""
    name: str
    """In words."""
    change: PairedChange
    """On the same samples."""

    @property
    def verdict(self) -> tuple[str, str]:
        """What the change is, in words, with the tone of a chip."""
        if self.change.change is None:
            return "not comparable", "unsure"
        return CHANGE_WORDS[direction(self.change)]


@dataclass(frozen=True)
class ShownRow:
    """A row as the page shows it."""

    number: int
    """Its number in plot and tables."""
    row: FrontierRow
    """Its figures."""
    changes: tuple[ShownChange, ...]
    """Against the plain model."""
    dominated_by: tuple[int, ...]
    """Numbers of the rows whose measured points dominate it."""

    @property
    def about(self) -> str:
        """What the mitigation is, in a phrase."""
        return describe(self.row.name)

    @property
    def front(self) -> tuple[str, str]:
        """Where it stands to the front, in words, with the tone of a chip."""
        membership = self.row.membership
        if membership is None:
            return "an axis is unknown", "unsure"
        share = f"{100 * membership.share:.0f}\N{NO-BREAK SPACE}%"
        if membership.share >= 0.95:
            return f"on the front, in {share} of resamples", "good"
        if membership.share <= 0.05:
            return f"not on the front, on it in {share} of resamples", "bad"
        return f"{'likely' if membership.share >= 0.5 else 'unlikely'} on the front: in {share} of resamples", "unsure"


@dataclass(frozen=True)
class FrontierPage:
    """Everything on the page."""

    frontier: Frontier
    """What was measured."""
    advice: FrontierAdvice
    """What it says."""
    rows: tuple[ShownRow, ...]
    """The plain model first, then those most surely on the front."""
    plot: FrontPlot
    """Both axes."""
    has_attack: bool
    """Whether there is a third axis."""
    chosen: ShownRow
    """The row that the advice names."""
    tests: int
    """Samples of the test split."""
    costs: str
    """What the chosen row costs."""
    uncertain: list[str]
    """How sure the figures of the chosen row are."""


def write_frontier_page(frontier: Frontier, advice: FrontierAdvice, out: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(out, render_frontier(frontier, advice))
    return out


def render_frontier(frontier: Frontier, advice: FrontierAdvice) -> str:
    """The page as HTML; the same frontier gives the same text."""
    own = files("equipoise.report.frontier").joinpath("style.css").read_text(encoding="utf-8")
    style = files("equipoise.report.audit").joinpath("style.css").read_text(encoding="utf-8") + own
    # As on the page of an audit: the policy names the one style sheet by its hash, so that no script can run.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template("frontier.html.j2")
        .render(page=_page(frontier, advice), style=Markup(style), policy=policy, version=__version__)
    )


def _page(frontier: Frontier, advice: FrontierAdvice) -> FrontierPage:
    ordered = rank(frontier.rows)
    number_of = {row.name: number for number, row in enumerate(ordered)}
    rows = tuple(
        ShownRow(
            number=number,
            row=row,
            changes=tuple(ShownChange(axis, WORDS[axis], row.changes[axis]) for axis in AXES if axis in row.changes),
            dominated_by=tuple(
                sorted(
                    number_of[frontier.rows[i].name] for i in (row.membership.dominated_by if row.membership else ())
                )
            ),
        )
        for number, row in enumerate(ordered)
    )
    chosen = next(shown for shown in rows if shown.row.name == advice.ship)
    return FrontierPage(
        frontier=frontier,
        advice=advice,
        rows=rows,
        plot=draw_front(ordered),
        has_attack=any(row.attacked for row in ordered),
        chosen=chosen,
        tests=sum(suite["test"] for suite in frontier.recipe["split"]["suites"]),
        costs=costs(chosen.row),
        uncertain=uncertainty(frontier, chosen.row),
    )


def ratio(value: float | None) -> str:
    """A latency ratio: `1.8 times`."""
    return "not measured" if value is None else f"{value:.2f} times"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `0.21 s`, `12 min`."""
    if seconds is None:
        return "not measured"
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds else "none"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def size(bytes_: int | None) -> str:
    """Memory in megabytes."""
    return "not measured" if bytes_ is None else f"{bytes_ / 1e6:,.0f} MB"


def unbroken(text: str) -> str:
    """A sentence whose numbers stay on one line with their unit."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(" points", "\N{NO-BREAK SPACE}points")


def command(words: Any) -> str:
    """A command as one types it."""
    return words if isinstance(words, str) else shlex.join(words)


@cache
def _environment() -> Environment:
    own = {filter_.__name__: filter_ for filter_ in (ratio, duration, size, command, unbroken)}
    # The macros of the audit's page name the filter `label`, for warnings with a kind; there are none here.
    return environment("equipoise.report.frontier", "equipoise.report.audit", filters={**own, "label": str})
