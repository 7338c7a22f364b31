"""A counted rate corrected for a judge's misses and false alarms (Rogan and Gladen 1978).

doi:10.1093/oxfordjournals.aje.a112510.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from equipoise.stats.proportions import Rate

DRAWS: Final = 20_000
"""Posterior draws behind a corrected interval."""


@dataclass(frozen=True)
class CorrectedRate:
    """A rate as the labels say it is, beside the one that was counted."""

    counted: Rate
    """What the judge counted."""
    rate: float | None
    """Corrected, in [0, 1]; None where it cannot be corrected."""
    low: float | None = None
    """Lower end of the interval, which carries the uncertainty of the labels too."""
    high: float | None = None
    """Upper end of the interval."""
    reason: str | None = None
    """Why it is not corrected, or what the correction had to do."""


def correct_rate(
    counted: Rate, sensitivity: Rate, specificity: Rate, *, confidence: float = 0.95, seed: int = 0
) -> CorrectedRate:
    """The true rate behind a counted one: `(counted + specificity - 1) / (sensitivity + specificity - 1)`.

    Args:
        counted: what the judge counted; at least one scored case.
        sensitivity: the judge's, on labelled cases; at least one.
        specificity: the judge's, on labelled cases; at least one.
        confidence: coverage of the interval.
        seed: of the posterior draws.

    Returns:
        The corrected rate, clipped to [0, 1], with an interval from the posteriors of the three rates (Jeffreys
        priors). It holds no rate where the labels do not exclude that the judge is no better than chance.
    """
    # A judge counts q = s p + (1 - c)(1 - p) for a true rate p, sensitivity s and specificity c; solved for p that is
    # the formula above. All three are only estimated, so the interval comes from draws of all three: Beta(k + 1/2,
    # n - k + 1/2) is the posterior of a rate under Jeffreys' prior.
    from scipy.stats import beta

    measured = (counted, sensitivity, specificity)
    generator = np.random.default_rng(seed)
    posterior = [beta.rvs(r.k + 0.5, r.n - r.k + 0.5, size=DRAWS, random_state=generator) for r in measured]
    # Youden's index is the denominator. Where it is not clearly positive the correction divides by nearly nothing, and
    # a draw below zero would turn the rate around.
    youden = posterior[1] + posterior[2] - 1
    if (youden <= 0).mean() > (1 - confidence) / 2:
        return CorrectedRate(counted, None, reason="too few labels to say that the judge tells the two apart")
    usable = youden > 0
    # Clipped, not dropped: draws outside of [0, 1] say that the true rate is at the edge, and leaving them out would
    # push the interval away from it.
    values = np.clip((posterior[0] + posterior[2] - 1)[usable] / youden[usable], 0, 1)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    rate, sensitive, specific = (r.k / r.n for r in measured)
    point = (rate + specific - 1) / (sensitive + specific - 1)
    clipped = min(max(point, 0.0), 1.0)
    reason = None if clipped == point else f"{point:.3f} lies outside of [0, 1] and was clipped"
    # The point need not lie within quantiles of draws that the prior pulls inwards; the interval always holds it.
    return CorrectedRate(counted, clipped, min(float(low), clipped), max(float(high), clipped), reason)
