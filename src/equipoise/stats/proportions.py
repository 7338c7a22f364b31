"""Rates: k of n with a Wilson interval and the count of unscored cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from equipoise.errors import UsageError
from equipoise.types import Verdict


def wilson(rate: float, size: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a rate of `size` independent cases, which need not be a whole number.

    Args:
        rate: in [0, 1].
        size: above 0; such as an effective sample size.
        confidence: coverage of the interval, in (0, 1).
    """
    # scipy.stats takes most of a second to import; Rate.of waits for it in the same way.
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    # The ends solve |rate - p| = z sqrt(p (1 - p) / size) for p.
    middle = (rate + z * z / (2 * size)) / (1 + z * z / size)
    reach = z / (1 + z * z / size) * (rate * (1 - rate) / size + (z / (2 * size)) ** 2) ** 0.5
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


@dataclass(frozen=True)
class Rate:
    """The share of scored cases that show something, with a Wilson interval and the count of unscored cases."""

    k: int
    """How many of the scored cases show it."""
    n: int
    """How many cases were scored; the unscored are not among them."""
    rate: float | None
    """`k / n`; None when nothing was scored."""
    low: float
    """Lower end of the interval; 0 when nothing was scored."""
    high: float
    """Upper end of the interval; 1 when nothing was scored."""
    unscored: int = 0
    """Cases without a label: counted and shown, on neither side of the rate."""

    @classmethod
    def of(cls, k: int, n: int, unscored: int = 0, confidence: float = 0.95) -> Self:
        """Build the rate of `k` out of `n` scored cases.

        Args:
            k: Cases that show it, `0 <= k <= n`.
            n: Scored cases.
            unscored: Cases without a label, on top of `n`.
            confidence: Coverage of the interval, in (0, 1).

        Returns:
            The rate with its Wilson score interval (Wilson 1927). With `n = 0` the rate is None and the interval is
            all of [0, 1].

        Raises:
            UsageError: If the counts or the confidence are impossible.
        """
        if not 0 <= k <= n or unscored < 0:
            raise UsageError(
                f"expected counts with 0 <= k <= n and unscored >= 0, got k={k}, n={n}, unscored={unscored}; "
                "try counting the unscored apart from n"
            )
        if not 0 < confidence < 1:
            raise UsageError(f"expected a confidence between 0 and 1, got {confidence}; try 0.95")
        if n == 0:
            return cls(k=0, n=0, rate=None, low=0.0, high=1.0, unscored=unscored)
        # Imported here: scipy.stats takes most of a second, and an audit begins without it.
        from scipy.stats import binomtest

        # Wilson's interval holds every rate p with |k/n - p| <= z sqrt(p (1 - p) / n): the standard error is taken at
        # p, not at k/n. So it has a width at 0 of n and n of n, where the textbook interval k/n +- z se has none, and
        # never leaves [0, 1]. Audits measure rates near 0 and 1.
        interval = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
        return cls(k, n, k / n, float(interval.low), float(interval.high), unscored)

    @classmethod
    def of_refusals(cls, verdicts: Iterable[Verdict]) -> Self:
        """The rate of refusals, full or partial, among the verdicts that have one; the rest is unscored."""
        labels = [verdict.refused for verdict in verdicts]
        return cls.of(labels.count(True), len(labels) - labels.count(None), labels.count(None))

    def __str__(self) -> str:
        """For tables: `0.950 [0.888, 0.978] (95/100, 2 unscored)`."""
        left_out = f", {self.unscored} unscored" if self.unscored else ""
        if self.rate is None:
            return f"unknown (0/0{left_out})"
        return f"{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.k}/{self.n}{left_out})"
