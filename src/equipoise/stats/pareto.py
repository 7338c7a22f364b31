"""Pareto fronts of measured variants: which of them nothing else beats, and how sure that is.

All axes are rates that are better low. A variant *dominates* another if it is not higher on any axis and lower on at
least one; the front is what nothing dominates. A front of measured points is itself random, so membership is the share
of resamples of whole clusters in which a variant is on the front (percentile bootstrap, as in `stats.estimates`). One
resample is drawn for all variants and axes together: the variants answered the same prompts, and their differences are
much less random than each of their rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from equipoise.errors import UsageError

RESAMPLES: Final = 4_000
"""Resamples of the bootstrap: a share is known to within 1.6 points."""
SEED: Final = 0
"""Seed of the bootstrap: the same labels give the same membership."""
_CHUNK: Final = 500


@dataclass(frozen=True)
class AxisLabels:
    """What counts on one axis, for every variant."""

    values: NDArray[np.float64]
    """`V x N`: 1 where a case counts, 0 where not, a mean where it was measured with several seeds, NaN unscored."""
    clusters: tuple[str, ...]
    """`N` names; cases that share one are not independent. Names are shared between axes."""

    def rates(self) -> NDArray[np.float64]:
        """`V` rates over the scored cases; NaN where there is none."""
        scored = ~np.isnan(self.values)
        counts = scored.sum(axis=1)
        sums = np.where(scored, self.values, 0.0).sum(axis=1)
        return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


@dataclass(frozen=True)
class FrontMembership:
    """Where a variant stands to the front."""

    on_front: bool
    """Whether nothing dominates the measured point."""
    share: float
    """Share of the resamples in which nothing dominates it."""
    dominated_by: tuple[int, ...] = ()
    """Indices of the variants whose measured points dominate it."""


def dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether points `... x A` dominate others of the same axes; never where an axis of either is unknown."""
    return np.asarray((a <= b).all(axis=-1) & (a < b).any(axis=-1))


def front_membership(
    axes: Sequence[AxisLabels], *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[FrontMembership | None]:
    """How each variant stands to the front of all of them.

    Args:
        axes: two or more, over the same variants.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One for each variant; None where an axis of it has no scored case.

    Raises:
        UsageError: axes over different numbers of variants, or none.
    """
    if not axes or len({len(axis.values) for axis in axes}) != 1:
        raise UsageError("expected axes over the same variants, got others; try one row for each variant on every axis")
    points = np.stack([axis.rates() for axis in axes], axis=-1)
    known: NDArray[np.bool_] = np.asarray(~np.isnan(points).any(axis=-1))
    shares = _shares(axes, resamples, seed) if known.any() else np.zeros(len(points))
    results: list[FrontMembership | None] = []
    for index, point in enumerate(points):
        if not known[index]:
            results.append(None)
            continue
        # `dominates` needs one strict inequality, so that equal points (a variant that changes nothing) do not push
        # each other off the front.
        above = np.flatnonzero(dominates(points, point[None]))
        results.append(FrontMembership(not above.size, float(shares[index]), tuple(int(i) for i in above)))
    return results


def _shares(axes: Sequence[AxisLabels], resamples: int, seed: int) -> NDArray[np.float64]:
    """`V` shares of resamples in which a variant is on the front."""
    names = sorted({name for axis in axes for name in axis.clusters})
    totals = [_cluster_totals(axis, names) for axis in axes]
    random, hits, drawn = np.random.default_rng(seed), np.zeros(len(axes[0].values)), 0
    while drawn < resamples:
        size = min(_CHUNK, resamples - drawn)
        # Drawing C clusters with replacement is one multinomial draw of how often every cluster is in the resample.
        weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size).astype(float)
        rates = []
        for sums, counts in totals:
            number = weights @ counts
            rates.append(np.divide(weights @ sums, number, out=np.full(number.shape, np.nan), where=number > 0))
        points = np.stack(rates, axis=-1)
        # `R x V`. A resample may hold none of a variant's scored cases on some axis; it then has no place in that
        # resample.
        known: NDArray[np.bool_] = np.asarray(~np.isnan(points).any(axis=-1))
        # R x V x V: whether the second variant dominates the first. NaN compares as false, so unknown points neither
        # dominate nor are dominated; they are taken off the front here.
        beaten = dominates(points[:, None, :, :], points[:, :, None, :]).any(axis=2)
        hits += (known & ~beaten).sum(axis=0)
        drawn += size
    return hits / resamples


def _cluster_totals(axis: AxisLabels, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`C x V` sums and numbers of the scored cases of each cluster; 0 for clusters without cases on this axis."""
    index = {name: number for number, name in enumerate(names)}
    rows = np.array([index[name] for name in axis.clusters], dtype=int)
    scored = ~np.isnan(axis.values)
    sums, counts = np.zeros((len(names), len(axis.values))), np.zeros((len(names), len(axis.values)))
    np.add.at(sums, rows, np.where(scored, axis.values, 0.0).T)
    np.add.at(counts, rows, scored.T.astype(float))
    return sums, counts
