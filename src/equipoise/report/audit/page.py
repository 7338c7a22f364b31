"""The page of an audit: one HTML file that opens offline, whatever the model said."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from equipoise import __version__
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.files import write_whole
from equipoise.report.audit.cards import JudgeCard, read_cards
from equipoise.report.audit.comparisons import ShownComparison, read_comparisons
from equipoise.report.audit.examples import WIRES, ExampleGroup, gallery
from equipoise.report.audit.image_store import LIMIT, ImageStore
from equipoise.report.audit.pairs import PicturePairs, pairs
from equipoise.report.audit.plot import PlotPoint, draw
from equipoise.report.audit.provenance import RunProvenance, read_origin
from equipoise.report.audit.rates import VariantRates, read_variants
from equipoise.report.audit.refusal_sources import RefusalSource, refusal_sources
from equipoise.report.audit.untrusted_text import mapping, visible
from equipoise.report.audit.warnings import ShownWarning, WarningQueue

PAIRS: Final = 4
"""Changed pictures that are shown."""
EXAMPLES: Final = 6
"""Examples of each kind for the first variant."""
OTHERS: Final = 3
"""Examples of each kind for every other variant."""


@dataclass(frozen=True)
class ShownVariant:
    """What the page says of one variant beside its numbers."""

    variant: VariantRates
    """Its numbers."""
    refusers: list[RefusalSource]
    """Who refused."""
    kinds: list[ExampleGroup]
    """Examples."""


@dataclass(frozen=True)
class AuditPage:
    """Everything on the page."""

    origin: RunProvenance
    """Where the numbers come from."""
    is_complete: bool
    """Whether everything was asked and judged."""
    asked: int
    """Prompts in all variants."""
    shown: tuple[ShownVariant, ...]
    """The variants, the plain one first."""
    plane: Markup
    """The two-axis plot."""
    undrawn: tuple[str, ...]
    """Variants that are not in the plot, as an axis is missing."""
    has_faint: bool
    """Whether the plot shows suites."""
    comparisons: list[ShownComparison]
    """What changed."""
    pairs: PicturePairs
    """Changed pictures."""
    cards: list[JudgeCard]
    """Who judged."""
    unreached: tuple[ShownWarning, ...]
    """Those that say that the model was not reached, or not on an axis or suite."""
    warnings: tuple[ShownWarning, ...]
    """Those about no single number."""
    left_out: int
    """Pictures that found no room."""

    @property
    def earlier(self) -> str | None:
        """The other run that arrows lead from; None where there is none."""
        return next((each.before for each in self.comparisons if each.start), None)

    @property
    def main(self) -> VariantRates | None:
        """The variant of the headline; None where nothing was asked."""
        return self.shown[0].variant if self.shown else None


def write_report(run: AuditRun, summary: Mapping[str, Any], out: Path, *, picture_limit: int = LIMIT) -> Path:
    """Write the page of a run, whole or not at all.

    Args:
        run: the run folder.
        summary: its summary, as `audit.summary.summarise` makes it.
        out: the HTML file.
        picture_limit: characters that the pictures on the page may take together.

    Returns:
        `out`.

    Raises:
        UsageError: a file of the run folder was changed.
        OutputError: the file cannot be written.
    """
    write_whole(out, render(run, summary, picture_limit=picture_limit))
    return out


def render(run: AuditRun, summary: Mapping[str, Any], *, picture_limit: int = LIMIT) -> str:
    """The page as HTML; the same folder and summary give the same text.

    Raises:
        UsageError: a file of the run folder was changed.
    """
    style = files("equipoise.report.audit").joinpath("style.css").read_text(encoding="utf-8")
    page = _page(run, summary, picture_limit)
    # The policy names the one style sheet by its hash: no script runs and nothing is fetched, even if escaping failed.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        _environment()
        .get_template("page.html.j2")
        .render(page=page, style=Markup(style), policy=policy, version=__version__, wires=WIRES)
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("equipoise.report.audit"),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page(run: AuditRun, summary: Mapping[str, Any], picture_limit: int) -> AuditPage:
    cases = run.cases()
    warnings = WarningQueue(summary)
    unreached = warnings.first()
    variants = read_variants(summary, warnings)
    origin = read_origin(run.recipe, cases)
    comparisons = read_comparisons(summary.get("comparisons"))
    starts = {each.variant: each.start for each in comparisons if each.variant and each.start}
    points = [variant.point(starts.get(variant.name)) for variant in variants]
    faint = _faint(variants)
    album = ImageStore(run.folder / "pictures", picture_limit)
    changed = pairs(cases, album, mapping(run.recipe.get("attack")), PAIRS)
    shown = _shown(variants, cases, album)
    return AuditPage(
        origin=origin,
        is_complete=bool(summary.get("complete")),
        asked=len(cases),
        shown=shown,
        plane=draw(points, faint),
        undrawn=tuple(point.name for point in points if not point.drawable),
        has_faint=bool(faint),
        comparisons=comparisons,
        pairs=changed,
        cards=read_cards(summary.get("judges"), origin.model),
        unreached=unreached,
        warnings=warnings.rest(),
        left_out=album.left_out,
    )


def _faint(variants: Sequence[VariantRates]) -> list[PlotPoint]:
    """Suites of the first variant that have both axes; one suite alone is the variant itself."""
    if not variants or len(variants[0].suites) < 2:
        return []
    points = [PlotPoint(line.name, line.refusal, line.harm) for line in variants[0].suites]
    return [point for point in points if point.drawable]


def _shown(variants: Sequence[VariantRates], cases: Sequence[AuditCase], album: ImageStore) -> tuple[ShownVariant, ...]:
    made = []
    for number, variant in enumerate(variants):
        own = [case for case in cases if case.sample.variant == variant.name]
        made.append(ShownVariant(variant, refusal_sources(own), gallery(own, album, OTHERS if number else EXAMPLES)))
    return tuple(made)
