"""Statistical power: how many samples an audit needs, and which difference it detects with those it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from equipoise.errors import UsageError
from equipoise.stats.proportions import Rate

MAX_SAMPLES: Final = 10_000_000
"""Largest sample size that is considered."""


@dataclass(frozen=True)
class ComparisonDesign:
    """The design of a comparison of two rates: error probabilities, and whether samples are paired."""

    alpha: float = 0.05
    """Probability of a false alarm where there is no change (two-sided)."""
    power: float = 0.8
    """Probability of detecting a change that is there."""
    paired: bool = False
    """Whether both measurements ask the same samples (McNemar's exact test) or others (two proportions)."""
    discordant: float | None = None
    """Paired only: share of samples on which the two differ. None takes them as independent, which needs the most
    samples: models of one family agree far more often."""

    def __post_init__(self) -> None:
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"expected {name} between 0 and 1, got {getattr(self, name)}; try leaving it out")
        if self.discordant is not None and not self.paired:
            raise UsageError("expected a share of discordant pairs with paired samples, got unpaired; try --paired")
        if self.discordant is not None and not 0 <= self.discordant <= 1:
            raise UsageError(f"expected a share of discordant pairs in [0, 1], got {self.discordant:g}; try 0.1")

    def power_of(self, n: int, rate: float, difference: float) -> float:
        """Probability that `n` samples a side (`n` pairs) show a change from `rate` to `rate + difference`.

        Raises:
            UsageError: the rates are no rates, or the share of discordant pairs cannot be.
        """
        _check_rates(rate, difference)
        if self.paired:
            return _mcnemar_power(n, difference, self._discordant(rate, difference), self.alpha)
        effect = proportion_effectsize(rate + difference, rate)
        return float(NormalIndPower().power(effect_size=effect, nobs1=n, alpha=self.alpha, ratio=1))

    def samples_for(self, rate: float, difference: float) -> int:
        """Fewest samples a side (pairs) that show a change from `rate` to `rate + difference` with this power.

        Raises:
            UsageError: the rates are no rates, the difference is zero, or so small that nobody could ask so many.
        """
        _check_rates(rate, difference)
        if difference == 0:
            raise UsageError("expected a difference other than 0, got 0; try 0.03")
        return _fewest(lambda n: self.power_of(n, rate, difference) >= self.power, f"a difference of {difference:g}")

    def difference_for(self, n: int, rate: float) -> float:
        """Smallest increase of `rate` that `n` samples a side (pairs) show with this power.

        With a share of discordant pairs no increase is below `least_difference`, which is then the answer where the
        samples show even that one.

        Raises:
            UsageError: no increase of this rate is large enough, or the arguments are no counts and rates.
        """
        if n < 1:
            raise UsageError(f"expected at least 1 sample, got {n}; try 300")
        if n > MAX_SAMPLES:
            # The exact test sums over some 20 sqrt(n) counts: without a limit a large n fills the memory.
            raise UsageError(f"expected at most {MAX_SAMPLES} samples, got more; try {MAX_SAMPLES}")
        least, most = max(self.least_difference(rate), 1e-9), self._most_difference(rate)
        if most < least or self.power_of(n, rate, most) < self.power:
            raise UsageError(
                f"expected enough samples to see some increase of a rate of {rate:g}, got {n}; try more samples"
            )
        if self.power_of(n, rate, least) >= self.power:
            return least
        return float(brentq(lambda d: self.power_of(n, rate, d) - self.power, least, most, xtol=1e-5))

    def least_difference(self, rate: float) -> float:
        """Smallest increase of `rate` that is possible with the share of discordant pairs; 0 without one.

        Raises:
            UsageError: no increase of this rate goes with that share.
        """
        _check_rates(rate, 0.0)
        if self.discordant is None:
            return 0.0
        # Pairs that count on one side alone are at most `rate` before and `rate + difference` after.
        least = max(self.discordant - 2 * rate, 0.0)
        if least > self._most_difference(rate) + 1e-12:
            raise UsageError(
                f"expected a share of discordant pairs of at most {min(2 - 2 * rate, 1):g} for increases of a rate of "
                f"{rate:g}, got {self.discordant:g}; try a smaller one"
            )
        return least

    def _most_difference(self, rate: float) -> float:
        """Largest increase of `rate` that is possible."""
        if self.discordant is None:
            return 1 - rate
        # Pairs that count on one side alone are at most those that do not count on the other.
        return min(1 - rate, self.discordant, 2 - 2 * rate - self.discordant)

    def _discordant(self, rate: float, difference: float) -> float:
        """Share of pairs that differ: given, or that of unrelated measurements."""
        other = rate + difference
        most = rate * (1 - other) + other * (1 - rate)
        if self.discordant is None:
            return max(most, abs(difference))
        highest = min(rate + other, 2 - rate - other)
        if not abs(difference) - 1e-12 <= self.discordant <= highest + 1e-12:
            raise UsageError(
                f"expected a share of discordant pairs from {abs(difference):g} to {highest:g} for rates of {rate:g} "
                f"and {other:g}, got {self.discordant:g}; try a value between"
            )
        return self.discordant


def samples_to_pass(rate: float, limit: float, power: float = 0.8) -> int:
    """Fewest samples with which a true rate keeps its upper Wilson bound within a limit, with this probability.

    Raises:
        UsageError: the rate is not below the limit, or so close that nobody could ask so many.
    """
    if not 0 <= rate < limit <= 1:
        raise UsageError(
            f"expected a rate below the limit, both in [0, 1], got {rate:g} and {limit:g}; try a higher limit"
        )
    return _fewest(lambda n: _passing(n, rate, limit) >= power, f"a rate of {rate:g} under a limit of {limit:g}")


def _passing(n: int, rate: float, limit: float) -> float:
    """Probability that the upper bound of `n` samples is within the limit."""
    if Rate.of(0, n).high > limit:
        return 0.0
    # The bound rises with the count, so that halving finds the largest count within the limit.
    few, many = 0, n + 1
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if Rate.of(middle, n).high <= limit else (few, middle)
    return float(binom.cdf(few, n, rate))


def _fewest(enough: Callable[[int], bool], what: str) -> int:
    """The smallest count that is enough, by doubling and halving.

    The power of an exact test is a sawtooth in the count, not monotone, so a few samples fewer may also do.
    """
    high = 1
    while not enough(high):
        if high >= MAX_SAMPLES:
            raise UsageError(f"expected {what} to need fewer than {MAX_SAMPLES} samples, got more; try a larger one")
        high = min(high * 2, MAX_SAMPLES)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _mcnemar_power(n: int, difference: float, discordant: float, alpha: float) -> float:
    """Power of McNemar's exact test: over all numbers of discordant pairs, that of the exact test on each.

    No library that we depend on has it; it is a sum of binomial tails, not an approximation.
    """
    if discordant <= 0:
        return 0.0
    # Ten standard deviations around the mean hold all but a negligible part of the probability.
    spread = 10 * np.sqrt(n * discordant * (1 - discordant)) + 10
    pairs = np.arange(max(int(n * discordant - spread), 0), min(int(n * discordant + spread), n) + 1)
    # The largest count in the smaller cell for which twice the tail is at most alpha; -1 where there is none.
    critical = binom.ppf(alpha / 2, pairs, 0.5)
    critical = np.where(2 * binom.cdf(critical, pairs, 0.5) <= alpha, critical, critical - 1)
    # Discordant pairs are up or down: up + down = discordant and up - down = |difference|, so that up's share of them
    # is this. Under the null it is 1/2.
    share = min((discordant + abs(difference)) / (2 * discordant), 1.0)
    rejected = binom.cdf(critical, pairs, share) + binom.cdf(critical, pairs, 1 - share)
    return float(np.sum(binom.pmf(pairs, n, discordant) * rejected))


def _check_rates(rate: float, difference: float) -> None:
    if not (0 <= rate <= 1 and 0 <= rate + difference <= 1):
        raise UsageError(
            f"expected rates in [0, 1], got {rate:g} and {rate + difference:g}; try --rate 0.05 --difference 0.03"
        )
