"""The rates of a summary in the order of the page: by variant, by suite and by category, always both axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.audit.labels import AXES, PLAIN, RateName
from equipoise.audit.records import AuditCase
from equipoise.audit.summary import AuditRates, SuiteSummary, VariantSummary
from equipoise.audit.warnings import AuditWarning
from equipoise.report.audit.numbers import cases
from equipoise.report.audit.plot import COLOURS, PlotPoint
from equipoise.report.audit.suite_groups import SuiteGroup, group_suites
from equipoise.report.audit.warnings import WarningQueue
from equipoise.stats.estimates import Estimate

WITHHELD: Final[dict[RateName, str]] = {
    "needless_refusal": "refused, full or partial (safety)",
    "capability_failure": "says that it cannot see, look up or know (capability)",
    "needless_rebuttal": "contradicts or advises against it (rebuttal)",
    "needless_clarification": "only asks back (clarification)",
}
"""Kinds of replies that withhold what should be answered, by their rate, for people."""

_NUMBER: Final = re.compile(r"(\d+)")


@dataclass(frozen=True)
class RateLine:
    """One row of a table of rates: a suite or a category."""

    name: str
    """Which suite or category."""
    rates: AuditRates
    """Its rates."""
    parts: tuple[RateLine, ...] = ()
    """Its categories, worst first."""
    warnings: tuple[AuditWarning, ...] = ()
    """Reasons not to trust its numbers."""

    @property
    def worst(self) -> float:
        """The larger of the two rates; -1 where neither is known."""
        rates = (self.rates.needless_refusal.rate, self.rates.harmful_answer.rate)
        return max(rate if rate is not None else -1.0 for rate in rates)

    @property
    def has_axes(self) -> bool:
        """Whether any sample belongs to one of the two axes."""
        return bool(cases(self.rates.needless_refusal) or cases(self.rates.harmful_answer))

    @property
    def has_borderline(self) -> bool:
        """Whether any sample is borderline."""
        return bool(cases(self.rates.borderline_refused) or cases(self.rates.borderline_harmful))


@dataclass(frozen=True)
class VariantRates:
    """A variant as the page shows it: its summary, with its suites in order and its warnings by axis."""

    name: str
    """`plain`, `perturbed`, `defended`, `defended perturbed` or `defended adaptive`."""
    look: int
    """Which colour and shape, counted from 0."""
    summary: VariantSummary
    """Its numbers."""
    suites: tuple[RateLine, ...]
    """Worst first."""
    rates: AuditRates
    """Over all suites that are no noise."""
    groups: tuple[SuiteGroup, ...] = ()
    """Its suites in groups, each with a headline of its own."""
    refusal_warnings: tuple[AuditWarning, ...] = ()
    """About the first axis."""
    harm_warnings: tuple[AuditWarning, ...] = ()
    """About the second axis."""
    warnings: tuple[AuditWarning, ...] = ()
    """About other numbers of the variant."""

    @property
    def all_warnings(self) -> tuple[AuditWarning, ...]:
        """Those about its numbers over all suites."""
        return (*self.refusal_warnings, *self.harm_warnings, *self.warnings)

    @property
    def withheld(self) -> tuple[tuple[str, Estimate], ...]:
        """How safe prompts were not answered: the kinds of refusal with their rates."""
        return tuple((name, getattr(self.rates, kind)) for kind, name in WITHHELD.items())

    def point(self, before: PlotPoint | None = None) -> PlotPoint:
        """The variant as a point of the plot."""
        return PlotPoint(self.name, self.rates.needless_refusal, self.rates.harmful_answer, self.look, before)


def order_variants(
    variants: Mapping[str, VariantSummary],
    warnings: WarningQueue,
    cases: Sequence[AuditCase],
    noise: frozenset[str],
) -> list[VariantRates]:
    """Every variant of a summary, in its order, the plain one first.

    Args:
        variants: by name.
        warnings: the warnings about each number are taken from it.
        cases: of the run.
        noise: suites whose numbers are not about the model.
    """
    names = sorted(variants, key=lambda name: name != PLAIN)
    members = {name: [case for case in cases if case.variant == name] for name in names}
    return [
        _variant(name, variants[name], index % COLOURS, warnings, members[name], noise)
        for index, name in enumerate(names)
    ]


def _variant(
    name: str,
    summary: VariantSummary,
    look: int,
    warnings: WarningQueue,
    cases: Sequence[AuditCase],
    noise: frozenset[str],
) -> VariantRates:
    suites = [_suite(name, suite, part, warnings) for suite, part in summary.suites.items()]
    return VariantRates(
        name=name,
        look=look,
        summary=summary,
        suites=_worst_first(suites),
        rates=summary.rates,
        groups=group_suites(cases, summary.suites, noise),
        refusal_warnings=warnings.take(name, rate=AXES[0]),
        harm_warnings=warnings.take(name, rate=AXES[1]),
        warnings=warnings.take(name),
    )


def _suite(variant: str, name: str, summary: SuiteSummary, warnings: WarningQueue) -> RateLine:
    parts = [RateLine(part, rates) for part, rates in summary.categories.items()]
    return RateLine(name, summary.rates, _worst_first(parts), warnings.take(variant, name))


def _worst_first(lines: list[RateLine]) -> tuple[RateLine, ...]:
    return tuple(sorted(lines, key=lambda line: (-line.worst, _in_order(line.name))))


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names by their numbers: `depth 5` before `depth 20`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(name)]
