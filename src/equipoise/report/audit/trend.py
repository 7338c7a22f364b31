"""Both failures over several runs, on the prompts that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from equipoise.audit.labels import AXES, PLAIN
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.summary import AuditRates, is_complete
from equipoise.errors import UsageError
from equipoise.report.audit.numbers import interval, percent
from equipoise.stats.estimates import Estimate

WIDTH: Final = 480
"""Of a chart, in SVG units."""
HEIGHT: Final = 140
"""Of its 0 to 100 %."""
TITLES: Final = {"needless_refusal": "Needless refusals", "harmful_answer": "Harmful answers"}


@dataclass(frozen=True)
class TrendRun:
    """One run of a trend."""

    name: str
    """Its folder."""
    model: str
    """Who was asked, with the revision."""
    started: str
    """When, as its recipe has it."""
    judge: str
    """Identity of the judge that reports."""
    is_complete: bool
    """Whether everything was asked and judged."""
    prompts: int
    """Prompts of the plain variant in all, shared or not."""
    rates: AuditRates
    """Over the shared prompts."""


@dataclass(frozen=True)
class TrendMark:
    """A run in a chart."""

    x: float
    """From the left."""
    y: float
    """The rate, from the top."""
    low: float
    """Lower end of the interval, from the top."""
    high: float
    """Upper end."""
    words: str
    """All of it in one sentence."""


@dataclass(frozen=True)
class TrendChart:
    """One rate over the runs."""

    title: str
    """Which rate."""
    axis: str
    """`refusal` or `harm`, for its colour."""
    marks: tuple[TrendMark, ...]
    """Runs whose rate is known."""

    @property
    def path(self) -> str:
        """The line through the rates."""
        return "M" + " L".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks) if self.marks else ""


@dataclass(frozen=True)
class RunTrend:
    """Several runs, in the order in which they were given."""

    runs: tuple[TrendRun, ...]
    """The runs; the page is that of the last."""
    shared: int
    """Prompts that all of them asked in the same words."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to read it as a trend."""
        texts = []
        if len({run.judge for run in self.runs}) > 1:
            texts.append("the runs were judged by different judges: a change may be the judge's; try equipoise rejudge")
        if unfinished := [run.name for run in self.runs if not run.is_complete]:
            texts.append(f"not finished: {', '.join(unfinished)}")
        return tuple(texts)

    @property
    def charts(self) -> tuple[TrendChart, ...]:
        """Both rates."""
        return tuple(
            TrendChart(TITLES[axis], tone, tuple(self._marks(axis)))
            for axis, tone in zip(AXES, ("refusal", "harm"), strict=True)
        )

    def _marks(self, axis: str) -> list[TrendMark]:
        step = WIDTH / max(1, len(self.runs) - 1)
        marks = []
        for index, run in enumerate(self.runs):
            rate: Estimate = getattr(run.rates, axis)
            if rate.rate is not None:
                y, low, high = (HEIGHT * (1 - value) for value in (rate.rate, rate.low, rate.high))
                words = f"{run.name}: {percent(rate.rate)} ({interval(rate)}, n {rate.n})"
                marks.append(TrendMark(step * index, y, low, high, words))
        return marks


def trend(runs: Sequence[AuditRun], noise: frozenset[str] = frozenset()) -> RunTrend:
    """The trend of some runs.

    Args:
        runs: at least two.
        noise: suites that are left out.

    Raises:
        UsageError: a folder was edited, or the runs share no prompt.
    """
    # Suites grow and prompts are corrected between releases. Only prompts that all runs asked in the same words (the
    # hash of their content is in the key) are compared, so that a change of the rate is the model's and not the
    # suite's.
    shared: set[tuple[str, str, str]] | None = None
    for run in runs:
        keys = {_key(case) for case in _plain(run.cases(), noise)}
        shared = keys if shared is None else shared & keys
    if not shared:
        raise UsageError(
            f"expected {len(runs)} runs that share prompts, got no prompt of all of them; try runs of the same suites"
        )
    # Each run is read again, so that only one of them is in memory at a time.
    return RunTrend(tuple(_trend_run(run, shared, noise) for run in runs), len(shared))


def _plain(cases: Sequence[AuditCase], noise: frozenset[str]) -> list[AuditCase]:
    return [case for case in cases if case.variant == PLAIN and case.sample.suite not in noise]


def _key(case: AuditCase) -> tuple[str, str, str]:
    return case.sample.suite, case.sample.id, case.row.content


def _trend_run(run: AuditRun, shared: set[tuple[str, str, str]], noise: frozenset[str]) -> TrendRun:
    cases = run.cases()
    plain = _plain(cases, noise)
    revision = (run.model_revision or "").rpartition(":")[2][:12]
    return TrendRun(
        name=run.folder.resolve().name,
        model=f"{run.model_name}@{revision}" if revision else run.model_name,
        started=str(run.recipe.get("started", "")),
        judge=run.judge,
        is_complete=is_complete(run, cases),
        prompts=len(plain),
        rates=AuditRates.of([case for case in plain if _key(case) in shared]),
    )
