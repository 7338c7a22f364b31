"""Rates, paired changes and p-values of an audit, with intervals, from the labels of its cases.

An interval covers three uncertainties: sampling (a closed formula), cases that are not independent (a bootstrap over
clusters), and labels on which judges disagree (counted both ways).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np

from equipoise.stats.effective_size import effective_size
from equipoise.stats.proportions import Rate, wilson

CONFIDENCE: Final = 0.95
"""Coverage of every interval of an audit."""
RESAMPLES: Final = 10_000
"""Resamples of a bootstrap over clusters."""
SEED: Final = 0
"""Seed of the bootstrap: the same labels give the same interval."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CaseLabel:
    """The label of one case for one rate."""

    value: bool | None
    """Whether the case counts; None where it is unscored."""
    cluster: str
    """Cases that share it are not independent."""
    review: bool = False
    """Whether judges disagree, so that `value` is a guess."""
    judged: str = ""
    """A hash of what was judged; empty where it is not known. A doubt about the same reply to the same sample is the
    same doubt before and after a change."""


@dataclass(frozen=True)
class Estimate(Rate):
    """A rate of an audit; its interval also covers clusters and labels under review."""

    review: int = 0
    """Scored cases on which judges disagree: `k` holds the better guess, the interval holds both."""
    clusters: int = 0
    """Groups of scored cases that are independent of each other; `n` where every case stands alone."""

    @property
    def least(self) -> float:
        """The rate if no unscored case counted; 0 where there is no case at all."""
        cases = self.n + self.unscored
        return self.k / cases if cases else 0.0

    @property
    def most(self) -> float:
        """The rate if every unscored case counted; 1 where there is no case at all."""
        cases = self.n + self.unscored
        return (self.k + self.unscored) / cases if cases else 1.0

    @property
    def unscored_share(self) -> float:
        """Unscored cases among all; 0 where there is none."""
        cases = self.n + self.unscored
        return self.unscored / cases if cases else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `{n, k, rate, low, high, unscored, review, clusters, least, most}`."""
        names = ("n", "k", "rate", "low", "high", "unscored", "review", "clusters", "least", "most")
        return {name: getattr(self, name) for name in names}


def estimate(labels: Iterable[CaseLabel]) -> Estimate:
    """The rate of the labels that are true.

    The interval is Wilson's (1927) at 95 %. Where clusters hold several cases, it is the wider, at each end, of
    Wilson's for the effective number of cases (`effective_size`) and of a percentile bootstrap over clusters: the
    bootstrap sees dependence, but is too narrow for few clusters and has no width at all when all cases agree. Labels
    under review widen it further: its low end is that of all of them being false, its high end that of all being true.
    """
    labels = list(labels)
    scored = [label for label in labels if label.value is not None]
    middle = Rate.of(sum(label.value is True for label in scored), len(scored), len(labels) - len(scored))
    review = sum(label.review for label in scored)
    low, high = _rate_ends(scored, lambda label: bool(label.value))
    # Not a distribution over the doubtful labels: nobody knows how often the better guess is right, so the interval
    # covers both extremes.
    if review:
        # The effective number of cases is another one in each reading, so that none need be the widest at both ends.
        low = min(low, _rate_ends(scored, lambda label: bool(label.value) and not label.review)[0])
        high = max(high, _rate_ends(scored, lambda label: bool(label.value) or label.review)[1])
    clusters = len({label.cluster for label in scored})
    return Estimate(**{**asdict(middle), "low": low, "high": high}, review=review, clusters=clusters)


def _rate_ends(scored: Sequence[CaseLabel], counts: Callable[[CaseLabel], bool]) -> tuple[float, float]:
    if not scored:
        return 0.0, 1.0
    values, clusters = [float(counts(label)) for label in scored], [label.cluster for label in scored]
    size = effective_size(values, clusters)
    ends = _wilson_ends(sum(values), len(values), size / len(values))
    return _bootstrap(values, clusters, _ConfidenceInterval(*ends))


def _wilson_ends(count: float, n: int, scale: float) -> tuple[float, float]:
    """Wilson's limits of `count` in `n` cases that are worth `scale * n` independent ones."""
    if scale == 1:
        exact = Rate.of(round(count), n)
        return exact.low, exact.high
    return wilson(count / n, scale * n)


@dataclass(frozen=True)
class PairedChange:
    """A rate of the same samples, measured twice: `a` before and `b` after."""

    n: int
    """Pairs scored on both sides."""
    both: int
    """Pairs that count in a and in b."""
    only_a: int
    """Pairs that count in a alone."""
    only_b: int
    """Pairs that count in b alone."""
    neither: int
    """Pairs that count in none."""
    change: float | None
    """Rate of b less rate of a over these pairs; None where there is no pair."""
    low: float
    """Lower end of its interval; -1 where there is no pair."""
    high: float
    """Upper end of its interval; 1 where there is no pair."""
    p: float
    """McNemar's exact two-sided p-value; it takes pairs as independent."""
    p_adjusted: float | None = None
    """`p` after Holm's correction over the cells of one table; None where the cell stands alone."""
    unscored: int = 0
    """Pairs left out because a side of them is unscored."""
    review: int = 0
    """Scored pairs with a label that judges disagree on."""
    clusters: int = 0
    """Groups of scored pairs that are independent of each other."""

    @property
    def rate_a(self) -> float | None:
        """Over these pairs."""
        return (self.both + self.only_a) / self.n if self.n else None

    @property
    def rate_b(self) -> float | None:
        """Over these pairs."""
        return (self.both + self.only_b) / self.n if self.n else None

    @property
    def unscored_share(self) -> float:
        """Pairs left out among all pairs."""
        pairs = self.n + self.unscored
        return self.unscored / pairs if pairs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the two rates."""
        return {"rate_a": self.rate_a, "rate_b": self.rate_b, **asdict(self)}


def paired_change(pairs: Iterable[tuple[CaseLabel, CaseLabel]]) -> PairedChange:
    """How a rate changed between two measurements of the same samples.

    The interval is Newcombe's square-and-add for paired proportions (Newcombe 1998, Statistics in Medicine 17:2635,
    method 10), put together from the Wilson limits of both rates. Where clusters hold several pairs, it is the wider,
    at each end, of that for the effective number of pairs and of a percentile bootstrap over clusters of pairs. Labels
    under review are counted both ways, but for those of a pair with the same reply on both sides: whatever is true of
    it is true of both, and the pair shows no change. The p-value is McNemar's exact test on the better guesses.
    """
    pairs = list(pairs)
    scored = [(a, b) for a, b in pairs if a.value is not None and b.value is not None]
    cells = _cells([(bool(a.value), bool(b.value)) for a, b in scored])
    both, only_a, only_b, neither = cells
    n, review = len(scored), sum(a.review or b.review for a, b in scored)
    scored = [(_without_doubt(a), _without_doubt(b)) if _same_reply(a, b) else (a, b) for a, b in scored]
    # The change is smallest when all doubtful labels of a count and none of b, and largest the other way round.
    resolutions = ((None, None), (True, False), (False, True)) if review else ((None, None),)
    ends = [_change_ends(scored, resolution) for resolution in resolutions]
    # statsmodels brings pandas, a second to import: only a comparison needs it.
    from statsmodels.stats.contingency_tables import mcnemar

    return PairedChange(
        n=n,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=neither,
        change=(only_b - only_a) / n if n else None,
        low=min(low for low, _ in ends),
        high=max(high for _, high in ends),
        p=float(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue),
        unscored=len(pairs) - n,
        review=review,
        clusters=len({a.cluster for a, _ in scored}),
    )


def _same_reply(a: CaseLabel, b: CaseLabel) -> bool:
    # A judge that is not the same twice may label one reply in two ways; that is a doubt of its own.
    return bool(a.judged) and a.judged == b.judged and a.value == b.value


def _without_doubt(label: CaseLabel) -> CaseLabel:
    return replace(label, review=False)


def _change_ends(
    scored: Sequence[tuple[CaseLabel, CaseLabel]], resolve: tuple[bool | None, bool | None]
) -> tuple[float, float]:
    """The interval with labels under review set to `resolve` on either side; None keeps the better guess."""

    def resolved(label: CaseLabel, to: bool | None) -> bool:
        return to if label.review and to is not None else bool(label.value)

    values = [(resolved(a, resolve[0]), resolved(b, resolve[1])) for a, b in scored]
    if not values:
        return -1.0, 1.0
    differences, clusters = [float(b) - float(a) for a, b in values], [a.cluster for a, _ in scored]
    scale = effective_size(differences, clusters) / len(values)
    return _bootstrap(differences, clusters, _newcombe(*_cells(values), scale=scale))


def _cells(values: Sequence[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    """How often both, only a, only b and neither count."""
    yes, no = True, False
    return values.count((yes, yes)), values.count((yes, no)), values.count((no, yes)), values.count((no, no))


@dataclass(frozen=True)
class _ConfidenceInterval:
    """The lower and the upper end."""

    low: float
    high: float


def _newcombe(both: int, only_a: int, only_b: int, neither: int, *, scale: float) -> _ConfidenceInterval:
    """Newcombe's method 10 for b less a, of pairs each of which is worth `scale` independent ones.

    statsmodels has intervals for independent proportions only.
    """
    n = both + only_a + only_b + neither
    a, b = (_ConfidenceInterval(*_wilson_ends(count, n, scale)) for count in (both + only_a, both + only_b))
    rate_a, rate_b = (both + only_a) / n, (both + only_b) / n
    # phi = (both neither - only_a only_b) / sqrt(product of the four margins)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess: float = both * neither - only_a * only_b
    # The two rates are of the same samples, so they are correlated; phi of the 2 x 2 table says how much. The paper
    # corrects a positive phi for continuity, by n / 2 but not past zero.
    if excess > 0:
        excess = max(excess - n / 2 / scale, 0)
    correlation = excess / margins**0.5 if margins else 0.0
    difference = rate_b - rate_a
    # Square and add: the distance from the difference to its lower end is made of b's distance to its lower end and
    # a's to its upper one, sqrt(x^2 - 2 phi x y + y^2); with phi = 0 the formula for independent rates.
    down, up = (rate_b - b.low, a.high - rate_a), (b.high - rate_b, rate_a - a.low)
    low, high = (
        max(x * x - 2 * correlation * x * y + y * y, 0.0) ** 0.5  # a square, but for rounding
        for x, y in (down, up)
    )
    return _ConfidenceInterval(max(difference - low, -1.0), min(difference + high, 1.0))


def _bootstrap(values: Sequence[float], clusters: Sequence[str], closed: _ConfidenceInterval) -> tuple[float, float]:
    """The wider, at each end, of a closed interval and the percentile bootstrap of the mean over clusters."""
    names, index = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    if len(names) == len(values):
        return closed.low, closed.high
    sizes = np.bincount(index, minlength=len(names))
    sums = np.bincount(index, weights=np.array(values), minlength=len(names))
    kinds, copies = np.unique(np.stack([sizes, sums]), axis=1, return_counts=True)
    # Clusters with the same size and sum are interchangeable, so a resample is one multinomial draw over the distinct
    # kinds of clusters: 10,000 resamples cost one matrix product instead of 10,000 loops over the cases.
    draws = np.random.default_rng(SEED).multinomial(len(names), copies / len(names), size=RESAMPLES)
    # Columns: cases and positive cases of each resample. The rate is their ratio, since clusters differ in size; a mean
    # of the clusters' rates would give a case in a small cluster more weight.
    drawn = draws @ kinds.T
    ends = np.quantile(drawn[:, 1] / drawn[:, 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return min(closed.low, float(ends[0])), max(closed.high, float(ends[1]))


def holm(changes: Mapping[Key, PairedChange]) -> dict[Key, PairedChange]:
    """The same changes with p-values that are corrected for there being several (Holm 1979).

    Cells without a pair take no part.
    """
    tested = {key: cell for key, cell in changes.items() if cell.n}
    # Not statsmodels' multipletests: it collects the garbage of the whole process at every call, which takes longer
    # than all other statistics of a comparison. A test holds the two against each other.
    # Holm: the i-th smallest of m p-values is multiplied by m - i + 1, and none may be below its predecessor. It bounds
    # the probability of any false alarm in the table, like Bonferroni's correction, and is never weaker.
    p = np.array([cell.p for cell in tested.values()])
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    corrected = {
        key: replace(cell, p_adjusted=float(value)) for (key, cell), value in zip(tested.items(), adjusted, strict=True)
    }
    return {**changes, **corrected}
