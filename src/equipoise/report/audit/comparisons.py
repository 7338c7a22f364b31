"""Paired changes: the same samples, measured twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from equipoise.audit.comparison import RunComparison
from equipoise.audit.labels import AXES, RateName
from equipoise.report.audit.plot import PlotPoint
from equipoise.stats.estimates import PairedChange
from equipoise.stats.proportions import Rate

NAMES: Final[dict[RateName, str]] = {
    "needless_refusal": "Needless refusals",
    "harmful_answer": "Harmful answers",
    "full_refusal": "Full needless refusals",
    "accuracy": "Right answers",
}
"""The rates that are compared on the page."""


@dataclass(frozen=True)
class ChangeLine:
    """One row of a table of changes."""

    rate: str
    """Which rate."""
    suite: str
    """Over which suite; `all` for all of them."""
    change: PairedChange
    """The change over the pairs of samples."""

    @property
    def before(self) -> Rate:
        """The rate before, over the pairs."""
        return _rate_before(self.change)

    @property
    def after(self) -> Rate:
        """The rate after, over the pairs."""
        return Rate.of(self.change.both + self.change.only_b, self.change.n, self.change.unscored)

    @property
    def p(self) -> float:
        """McNemar's p-value, with Holm's correction where there are several of them."""
        return self.change.p if self.change.p_adjusted is None else self.change.p_adjusted


@dataclass(frozen=True)
class ComparisonSection:
    """A comparison as the page shows it."""

    comparison: RunComparison
    """What is shown."""

    @property
    def is_other_run(self) -> bool:
        """Whether the other side is another run; otherwise two variants of one run are compared."""
        return self.comparison.a.variant == self.comparison.b.variant

    @property
    def before(self) -> str:
        """Name of the one side."""
        return self._names[0]

    @property
    def after(self) -> str:
        """Name of the other side."""
        return self._names[1]

    @property
    def _names(self) -> tuple[str, str]:
        a, b = self.comparison.a, self.comparison.b
        if not self.is_other_run:
            return a.variant, b.variant
        return (a.model, b.model) if a.model != b.model else ("the earlier run", "this run")

    @property
    def variant(self) -> str | None:
        """The variant that has another run on the other side; None where two variants of one run are compared."""
        return self.comparison.b.variant if self.is_other_run else None

    @property
    def left_out(self) -> int:
        """Samples that have no partner."""
        return self.comparison.only_a + self.comparison.only_b + self.comparison.changed

    @property
    def warnings(self) -> list[str]:
        """Reasons not to read it as a comparison; sides that they call `a` or `b` get their names."""
        return [self._named(text) for text in self.comparison.warnings]

    @property
    def totals(self) -> list[ChangeLine]:
        """The changes over everything that was paired."""
        return [ChangeLine(name, "all", self.comparison.rates[kind].all) for kind, name in NAMES.items()]

    @property
    def suites(self) -> list[ChangeLine]:
        """Both axes of each suite; an axis that the suite has no samples of is a row without pairs."""
        rates = self.comparison.rates
        names = dict.fromkeys(suite for kind in NAMES for suite in rates[kind].suites)
        return [
            ChangeLine(NAMES[kind], suite, rates[kind].suites[suite].all if suite in rates[kind].suites else NO_PAIRS)
            for suite in names
            for kind in AXES
        ]

    @property
    def start(self) -> PlotPoint | None:
        """The other run as a point of the plot, on the shared samples; None where two variants are compared."""
        if not self.is_other_run:
            return None
        refusal, harm = (_rate_before(self.comparison.rates[kind].all) for kind in AXES)
        return PlotPoint(self.before, refusal, harm)

    def _named(self, text: str) -> str:
        # Warnings of `audit.comparison` know the sides as a and b only, as they are compared before anybody has named
        # them.
        for letter, name in (("a ", self.before), ("b ", self.after)):
            if text.startswith(letter + "is "):
                return name + text[1:]
        return text


NO_PAIRS: Final = PairedChange(0, 0, 0, 0, 0, change=None, low=-1.0, high=1.0, p=1.0)


def _rate_before(change: PairedChange) -> Rate:
    return Rate.of(change.both + change.only_a, change.n, change.unscored)
