"""Rates as people read them: never without their interval, their counts and what nobody could score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class ShownRate:
    """A rate with all that has to stand beside it."""

    k: int
    """How many of the scored cases show it."""
    n: int
    """How many cases were scored."""
    rate: float | None
    """`k / n`; None when nothing was scored."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    unscored: int
    """Cases without a label, on neither side."""
    review: int
    """Scored cases on which judges disagree; the interval holds both readings."""

    @classmethod
    def read(cls, estimate: object) -> Self:
        """An estimate of `summary.json`; one that is missing is the rate of no cases."""
        kept: Mapping[str, Any] = estimate if isinstance(estimate, Mapping) else {}
        return cls(
            k=_count(kept.get("k")),
            n=_count(kept.get("n")),
            rate=finite(kept.get("rate")),
            low=_inside(finite(kept.get("low")), 0.0),
            high=_inside(finite(kept.get("high")), 1.0),
            unscored=_count(kept.get("unscored")),
            review=_count(kept.get("review")),
        )

    @property
    def asked(self) -> int:
        """Cases in all, the unscored among them."""
        return self.n + self.unscored

    @property
    def percent(self) -> str:
        """The rate: `6.0 %`."""
        return percent(self.rate)

    @property
    def interval(self) -> str:
        """The interval: `3.5-10.2 %`."""
        return f"{_hundred(self.low)}{DASH}{_hundred(self.high)}{SPACE}%"

    @property
    def counts(self) -> str:
        """What it was counted from: `12 of 200`."""
        return f"{self.k:,} of {self.n:,}"

    @property
    def beside(self) -> str:
        """What stands beside it: `3 unscored, 4 in review`."""
        return f"{self.unscored:,} unscored, {self.review:,} in review"


def percent(rate: float | None) -> str:
    """A rate with one digit: `6.0 %`; what is nearly none or nearly all does not look like none or all."""
    return "unknown" if rate is None else f"{_hundred(rate)}{SPACE}%"


def change(value: float | None) -> str:
    """A difference of two rates in percentage points: `+12.5 points`."""
    if value is None:
        return "unknown"
    sign = "+" if value > 0 else MINUS if value < 0 else "±"
    return f"{sign}{abs(100 * value):.1f}{SPACE}points"


def probability(value: float | None) -> str:
    """A p value: `p = 0.013`, `p < 0.001`."""
    if value is None:
        return f"p{SPACE}unknown"
    return f"p{SPACE}<{SPACE}0.001" if value < 0.001 else f"p{SPACE}={SPACE}{value:.3f}"


def finite(value: object) -> float | None:
    """A number that can be shown; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _hundred(rate: float) -> str:
    shown = f"{100 * rate:.1f}"
    if rate > 0 and shown == "0.0":
        return "<0.1"
    if rate < 1 and shown == "100.0":
        return ">99.9"
    return shown


def _count(value: object) -> int:
    number = finite(value)
    return 0 if number is None else int(number)


def _inside(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else min(max(value, 0.0), 1.0)
