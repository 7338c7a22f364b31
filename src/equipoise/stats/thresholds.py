"""A threshold with a bound on its false-positive rate, from scores of what is known to be clean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy.stats import beta

from equipoise.errors import UsageError


def clopper_pearson_lower(hits: int, count: int, alpha: float) -> float:
    """One-sided lower bound of a probability at confidence `1 - alpha` (Clopper and Pearson 1934)."""
    return 0.0 if hits == 0 else float(beta.ppf(alpha, hits, count - hits + 1))


@dataclass(frozen=True)
class Threshold:
    """From which score on something counts as found: a perturbed picture, a harmful reply."""

    value: float
    """The threshold."""
    rate: float
    """Share of the clean scores above it."""
    bound: float
    """Upper bound of the false-positive rate at the stated confidence."""
    asked: float
    """The false-positive rate that was asked for."""
    count: int
    """Clean scores behind it."""
    confidence: float
    """Of the bound."""

    @property
    def supported(self) -> bool:
        """Whether there are enough clean scores for the bound to reach what was asked for."""
        return self.bound <= self.asked

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"supported": self.supported}


def calibrate(scores: Sequence[float], rate: float, *, confidence: float = 0.95) -> Threshold:
    """The lowest threshold whose false-positive rate is bounded by `rate`, from scores of what is clean.

    The bound is that of Clopper and Pearson for the place of the threshold among the scores; ties with it do not lower
    the bound, as the threshold was chosen after seeing them. Where even none above it does not support the rate
    (fewer than about `3 / rate` scores), the threshold is the highest score and `supported` is False.

    Raises:
        UsageError: no scores or one that is no number, or a rate or a confidence outside (0, 1).
    """
    if not scores or not (0 < rate < 1 and 0 < confidence < 1) or any(map(math.isnan, scores)):
        raise UsageError(
            f"expected scores that are numbers, and a rate and a confidence in (0, 1), got {len(scores)} scores, "
            f"{rate:g} and {confidence:g}; try 0.05 and 0.95"
        )
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


def _upper(hits: int, count: int, confidence: float) -> float:
    return 1 - clopper_pearson_lower(count - hits, count, 1 - confidence)
