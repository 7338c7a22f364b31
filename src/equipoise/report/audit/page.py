"""The page of an audit: one HTML file that opens offline and shows replies as text only."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from jinja2 import Environment
from markupsafe import Markup

from equipoise import __version__
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.recovery.curve_file import read_curve
from equipoise.audit.suite_pools import noise_suites
from equipoise.audit.summary import AuditSummary
from equipoise.audit.warnings import AuditWarning
from equipoise.files import write_whole
from equipoise.report.audit.cards import JudgeCard, judge_cards, kappa_of, notes_of
from equipoise.report.audit.comparisons import ComparisonSection
from equipoise.report.audit.corrections import GroupCorrection, PageOptions, correct_groups
from equipoise.report.audit.doubts import Doubt, list_doubts
from equipoise.report.audit.examples import WIRES, ExampleGroup, example_groups
from equipoise.report.audit.image_store import LIMIT, ImageStore
from equipoise.report.audit.pairs import PicturePairs, picture_pairs
from equipoise.report.audit.plot import PlotPoint, draw
from equipoise.report.audit.provenance import RunProvenance, provenance
from equipoise.report.audit.rates import VariantRates, order_variants
from equipoise.report.audit.recovery import RecoverySection, recovery_section
from equipoise.report.audit.refusal_sources import RefusalSource, refusal_sources
from equipoise.report.audit.replies import write_replies
from equipoise.report.audit.trend import RunTrend, trend
from equipoise.report.audit.untrusted_text import visible
from equipoise.report.audit.usage import RunUsage
from equipoise.report.audit.warnings import WarningQueue, label
from equipoise.report.templates import environment

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
    refusal_sources: list[RefusalSource]
    """Who refused."""
    kinds: list[ExampleGroup]
    """Examples."""
    usage: RunUsage
    """Time, tokens and cost."""


@dataclass(frozen=True)
class AuditPage:
    """Everything on the page."""

    provenance: RunProvenance
    """Where the numbers come from."""
    is_complete: bool
    """Whether everything was asked and judged."""
    prompts: int
    """Prompts in all variants."""
    shown: tuple[ShownVariant, ...]
    """The variants, the plain one first."""
    scatter: Markup
    """The two-axis plot."""
    undrawn: tuple[str, ...]
    """Variants that are not in the plot, as an axis is missing."""
    has_faint: bool
    """Whether the plot shows suites."""
    comparisons: list[ComparisonSection]
    """What changed."""
    pairs: PicturePairs
    """Changed pictures."""
    cards: list[JudgeCard]
    """Who judged."""
    unreached: tuple[AuditWarning, ...]
    """Those that say that the model was not reached, or not on an axis or suite."""
    doubts: tuple[Doubt, ...]
    """All others, each once, the weightiest first."""
    doubt_numbers: Mapping[AuditWarning, int]
    """The number of each warning's doubt."""
    left_out: int
    """Pictures that found no room."""
    noise: frozenset[str] = frozenset()
    """Suites whose numbers are not about the model."""
    replies: str = ""
    """File name of the page of every reply; empty where there is none."""
    trend: RunTrend | None = None
    """Both failures over several runs."""
    corrections: tuple[GroupCorrection, ...] = ()
    """Headlines corrected for the judge's errors."""
    options: PageOptions = field(default_factory=lambda: PageOptions())
    """What was given beside the run."""
    recovery: RecoverySection | None = None
    """How often begun replies turn into refusals; None where they were not asked."""
    repeated: Mapping[str, str] = field(default_factory=dict)
    """The one reply that all prompts of a variant got, by variant."""

    @property
    def earlier(self) -> str | None:
        """The other run that arrows lead from; None where there is none."""
        return next((section.before for section in self.comparisons if section.is_other_run), None)

    def refs(self, warnings: Sequence[AuditWarning]) -> list[int]:
        """The numbers of the doubts that warnings belong to, in order."""
        return sorted({self.doubt_numbers[warning] for warning in warnings})

    @property
    def main(self) -> VariantRates | None:
        """The variant of the headline; None where nothing was asked."""
        return self.shown[0].variant if self.shown else None


def write_report(
    run: AuditRun,
    summary: AuditSummary,
    out: Path,
    *,
    picture_limit: int = LIMIT,
    options: PageOptions | None = None,
    cases: Sequence[AuditCase] | None = None,
) -> Path:
    """Write the page of a run and, beside it, the page of every reply, each whole or not at all.

    Args:
        run: the run folder.
        summary: its summary, as `audit.summary.summarise` gives it.
        out: the HTML file; the replies are in `NAME-replies.html`.
        picture_limit: characters that the pictures on the page may take together.
        options: what the page shows beside the run.
        cases: the run's cases where they were read already.

    Returns:
        `out`.

    Raises:
        UsageError: a file of the run folder was changed.
        OutputError: a file cannot be written.
    """
    cases = run.cases() if cases is None else cases
    replies = write_replies(run, cases, out)
    page = _page(run, summary, picture_limit, cases, options or PageOptions(), replies.name)
    write_whole(out, _html(page))
    return out


def render(
    run: AuditRun, summary: AuditSummary, *, picture_limit: int = LIMIT, options: PageOptions | None = None
) -> str:
    """The page as HTML, without the page of replies; the same folder and summary give the same text.

    Raises:
        UsageError: a file of the run folder was changed.
    """
    return _html(_page(run, summary, picture_limit, run.cases(), options or PageOptions(), ""))


def _html(page: AuditPage) -> str:
    style = files("equipoise.report.audit").joinpath("style.css").read_text(encoding="utf-8")
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
    own = (link_hash, kappa_of, notes_of, label)
    return environment("equipoise.report.audit", filters={filter_.__name__: filter_ for filter_ in own})


def _page(
    run: AuditRun,
    summary: AuditSummary,
    picture_limit: int,
    cases: Sequence[AuditCase],
    options: PageOptions,
    replies: str,
) -> AuditPage:
    noise = noise_suites(run.model_name, cases)
    # In this order: what stands at the top is taken first, then what belongs to a number, and the rest at the end.
    warnings = WarningQueue(list(summary.warnings))
    unreached = warnings.first()
    doubts, numbers_of = list_doubts(warnings.remaining())
    variants = order_variants(summary.variants, warnings, cases, noise)
    comparisons = [ComparisonSection(comparison) for comparison in summary.comparisons]
    starts = {section.variant: section.start for section in comparisons if section.is_other_run}
    points = [variant.point(starts.get(variant.name)) for variant in variants]
    faint = _faint(variants)
    images = ImageStore(run.folder / "pictures", picture_limit)
    changed = picture_pairs(cases, images, run.perturbed_pictures(), PAIRS)
    shown = _shown(variants, cases, images, options)
    return AuditPage(
        provenance=provenance(run, cases),
        is_complete=summary.complete,
        prompts=len(cases),
        shown=shown,
        scatter=draw(points, faint),
        undrawn=tuple(point.name for point in points if not point.drawable),
        has_faint=bool(faint),
        comparisons=comparisons,
        pairs=changed,
        cards=judge_cards(summary.judges),
        unreached=unreached,
        doubts=doubts,
        doubt_numbers=numbers_of,
        left_out=images.left_out,
        noise=noise,
        replies=replies,
        trend=trend(options.runs, noise) if len(options.runs) > 1 else None,
        corrections=correct_groups(run, variants[0].groups, options.calibration) if variants else (),
        options=options,
        recovery=recovery_section(
            [(variant.name, variant.look) for variant in variants], summary.recovery, read_curve(run.folder)
        ),
        repeated={name: part.repeated_reply for name, part in summary.variants.items() if part.repeated_reply},
    )


def link_hash(values: Mapping[str, str]) -> str:
    """Filters of the page of replies as the end of its address."""
    return "#" + urlencode({name: str(visible(value)) for name, value in values.items() if value})


def _faint(variants: Sequence[VariantRates]) -> list[PlotPoint]:
    """Suites of the first variant that have both axes; one suite alone is the variant itself."""
    if not variants or len(variants[0].suites) < 2:
        return []
    points = [
        PlotPoint(line.name, line.rates.needless_refusal, line.rates.harmful_answer) for line in variants[0].suites
    ]
    return [point for point in points if point.drawable]


def _shown(
    variants: Sequence[VariantRates], cases: Sequence[AuditCase], images: ImageStore, options: PageOptions
) -> tuple[ShownVariant, ...]:
    shown = []
    for index, variant in enumerate(variants):
        own = [case for case in cases if case.variant == variant.name]
        examples = example_groups(own, images, OTHERS if index else EXAMPLES)
        usage = RunUsage.of(own, options.price)
        shown.append(ShownVariant(variant, refusal_sources(own), examples, usage))
    return tuple(shown)
