"""Paired changes: the same samples, measured twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from equipoise.report.audit.numbers import ShownRate, change, finite, probability
from equipoise.report.audit.plot import PlotPoint
from equipoise.report.audit.untrusted_text import mapping, mappings
from equipoise.stats.proportions import Rate

NAMES: Final = {
    "needless_refusal": "Needless refusals",
    "harmful_answer": "Harmful answers",
    "full_refusal": "Full needless refusals",
    "accuracy": "Right answers",
}
"""Rates, for people; the first two are the axes."""


@dataclass(frozen=True)
class ShownChange:
    """How one rate changed on the samples that both sides share."""

    rate: str
    """Which rate."""
    where: str
    """Which samples."""
    before: ShownRate
    """The rate on one side, over the pairs."""
    after: ShownRate
    """The rate on the other, over the pairs."""
    change: str
    """In percentage points."""
    interval: str
    """Of the change."""
    only_before: int
    """Pairs that count before alone."""
    only_after: int
    """Pairs that count after alone."""
    n: int
    """Pairs scored on both sides."""
    unscored: int
    """Pairs left out."""
    review: int
    """Scored pairs on which judges disagree."""
    p: str
    """McNemar's p value."""
    is_corrected: bool
    """Whether Holm's correction is in it, there being several of them."""


@dataclass(frozen=True)
class ShownComparison:
    """All changes between two sides."""

    before: str
    """One side."""
    after: str
    """The other."""
    pairs: int
    """Samples that both have."""
    left_out: int
    """Samples that have no partner."""
    warnings: tuple[str, ...]
    """Reasons not to read it as a comparison."""
    totals: tuple[ShownChange, ...]
    """Over everything that was paired."""
    suites: tuple[ShownChange, ...]
    """Both axes for each suite."""
    variant: str | None
    """The variant that has another run on the other side; None where two variants of one run are compared."""
    start: PlotPoint | None
    """Where the other run stood on both axes, on the shared samples."""


def read_comparisons(entries: object) -> list[ShownComparison]:
    """The comparisons of a summary."""
    return [_comparison(entry) for entry in mappings(entries)]


def _comparison(entry: Mapping[str, Any]) -> ShownComparison:
    a, b, rates = (mapping(entry.get(name)) for name in ("a", "b", "rates"))
    is_other_run = a.get("variant") == b.get("variant")
    totals = [_change(mapping(rates.get(kind)), kind, "all") for kind in NAMES if kind in rates]
    suites = dict.fromkeys(name for kind in NAMES for name in mapping(mapping(rates.get(kind)).get("suites")))
    before, after = _sides(a, b, is_other_run)
    return ShownComparison(
        before=before,
        after=after,
        pairs=_whole(entry.get("pairs")),
        left_out=sum(_whole(entry.get(name)) for name in ("only_a", "only_b", "changed")),
        warnings=tuple(_named(str(words), before, after) for words in entry.get("warnings") or ()),
        totals=tuple(totals),
        suites=tuple(
            _change(mapping(mapping(mapping(rates.get(kind)).get("suites")).get(name)), kind, name)
            for name in suites
            for kind in list(NAMES)[:2]
        ),
        variant=str(b.get("variant")) if is_other_run else None,
        start=_start(before, rates) if is_other_run else None,
    )


def _sides(a: Mapping[str, Any], b: Mapping[str, Any], is_other_run: bool) -> tuple[str, str]:
    variants = str(a.get("variant")), str(b.get("variant"))
    if not is_other_run:
        return variants
    models = str(a.get("model")), str(b.get("model"))
    return models if models[0] != models[1] else ("the earlier run", "this run")


def _named(words: str, before: str, after: str) -> str:
    """A warning that speaks of `a` or `b`, with their names."""
    for letter, name in (("a ", before), ("b ", after)):
        if words.startswith(letter + "is "):
            return name + words[1:]
    return words


def _start(name: str, rates: Mapping[str, Any]) -> PlotPoint:
    refusal, harm = (_side_rate(mapping(rates.get(kind)), "only_a") for kind in list(NAMES)[:2])
    return PlotPoint(name, refusal, harm)


def _side_rate(cell: Mapping[str, Any], alone: str) -> ShownRate:
    """The rate on one side, over the pairs, with Wilson's interval."""
    n = _whole(cell.get("n"))
    k = min(_whole(cell.get("both")) + _whole(cell.get(alone)), n)
    rate = Rate.of(k, n)
    return ShownRate(k, n, rate.rate, rate.low, rate.high, _whole(cell.get("unscored")), _whole(cell.get("review")))


def _change(cell: Mapping[str, Any], kind: str, where: str) -> ShownChange:
    adjusted, bare = finite(cell.get("p_adjusted")), finite(cell.get("p"))
    low, high = change(finite(cell.get("low"))), change(finite(cell.get("high")))
    return ShownChange(
        rate=NAMES.get(kind, kind),
        where=where,
        before=_side_rate(cell, "only_a"),
        after=_side_rate(cell, "only_b"),
        change=change(finite(cell.get("change"))),
        interval=f"{low.split()[0]} to {high.split()[0]}",
        only_before=_whole(cell.get("only_a")),
        only_after=_whole(cell.get("only_b")),
        n=_whole(cell.get("n")),
        unscored=_whole(cell.get("unscored")),
        review=_whole(cell.get("review")),
        p=probability(bare if adjusted is None else adjusted),
        is_corrected=adjusted is not None,
    )


def _whole(value: object) -> int:
    return max(int(finite(value) or 0), 0)
