"""A score threshold with an upper bound on its false-positive rate, from the scores of clean cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from statsmodels.stats.proportion import proportion_confint

from equipoise.errors import UsageError


def clopper_pearson_lower(hits: int, count: int, alpha: float) -> float:
    """One-sided lower bound of a probability at confidence `1 - alpha` (Clopper and Pearson 1934)."""
    # The lower end of the two-sided interval leaves alpha / 2 below it, so 2 alpha gives the one-sided bound.
    low, _ = proportion_confint(hits, count, alpha=2 * alpha, method="beta")
    return float(low)


@dataclass(frozen=True)
class Threshold:
    """The score above which a case counts as positive: a perturbed picture, a harmful reply."""

    value: float
    """The threshold; a score equal to it is not above it."""
    rate: float
    """Share of the clean scores above it."""
    bound: float
    """Upper bound of the false-positive rate at the stated confidence."""
    target_rate: float
    """The false-positive rate that was requested."""
    count: int
    """Number of clean scores."""
    confidence: float
    """Confidence of the bound, in (0, 1)."""

    @property
    def supported(self) -> bool:
        """Whether there are enough clean scores for the bound to reach the requested rate."""
        return self.bound <= self.target_rate

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"supported": self.supported}


def calibrate(scores: Sequence[float], rate: float, *, confidence: float = 0.95) -> Threshold:
    """The lowest threshold whose false-positive rate is bounded by `rate`, from scores of clean cases.

    The bound is that of Clopper and Pearson for the rank of the threshold among the scores; ties with it do not lower
    the bound, as the threshold was chosen after seeing them. Where even none above it does not support the rate
    (fewer than about `3 / rate` scores), the threshold is the highest score and `supported` is False.

    Args:
        scores: scores of clean cases; high means positive.
        rate: the false-positive rate requested, in (0, 1).
        confidence: of the bound, in (0, 1).

    Raises:
        UsageError: no scores or one that is no number, or a rate or a confidence outside (0, 1).
    """
    if not scores or not (0 < rate < 1 and 0 < confidence < 1) or any(map(math.isnan, scores)):
        raise UsageError(
            f"expected scores that are numbers, and a rate and a confidence in (0, 1), got {len(scores)} scores, "
            f"{rate:g} and {confidence:g}; try 0.05 and 0.95"
        )
    # Candidates are the scores themselves, from the highest down. With `above` of n clean scores above a threshold the
    # bound is the upper end of Clopper's and Pearson's interval for above / n: exact, so that it holds for small n,
    # where a normal approximation would promise too much. The bound grows with `above`, so the first failure ends it.
    ordered = sorted(scores, reverse=True)
    above = 0
    while above + 1 < len(ordered) and _upper(above + 1, len(ordered), confidence) <= rate:
        above += 1
    value = ordered[above]
    return Threshold(
        value,
        sum(score > value for score in ordered) / len(ordered),
        _upper(above, len(ordered), confidence),
        rate,
        len(ordered),
        confidence,
    )


def scores_needed(rate: float, confidence: float) -> int:
    """How many clean scores, none of them above the threshold, support a false-positive rate."""
    # (1 - rate)^n <= 1 - confidence: so rarely would n cases all stay below the threshold at a higher rate.
    # log1p: 1 - rate is 1 for a tiny rate, and its logarithm no divisor.
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def _upper(hits: int, count: int, confidence: float) -> float:
    """One-sided upper bound: one less the lower bound of the misses."""
    return 1 - clopper_pearson_lower(count - hits, count, 1 - confidence)
