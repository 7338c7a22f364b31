"""Rates, changes and p-values as text, for the templates of the page."""

from __future__ import annotations

from equipoise.stats.estimates import Estimate
from equipoise.stats.proportions import Rate

SPACE = "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def percent(rate: float | None) -> str:
    """A rate with one digit: `6.0 %`; only 0 is shown as 0.0 % and only 1 as 100.0 %."""
    return "unknown" if rate is None else f"{_hundred(rate)}{SPACE}%"


def interval(rate: Rate) -> str:
    """The interval of a rate: `3.5-10.2 %`."""
    return f"{_hundred(rate.low)}{DASH}{_hundred(rate.high)}{SPACE}%"


def counts(rate: Rate) -> str:
    """The counts that a rate comes from: `12 of 200`."""
    return f"{rate.k:,} of {rate.n:,}"


def uncertain(rate: Estimate) -> str:
    """The cases that a rate leaves open: `3 unscored, 4 in review`."""
    return f"{rate.unscored:,} unscored, {rate.review:,} in review"


def points(difference: float | None) -> str:
    """A difference of two rates in percentage points: `+12.5 points`."""
    return "unknown" if difference is None else f"{_signed(difference)}{SPACE}points"


def points_range(low: float, high: float) -> str:
    """The interval of a difference, in percentage points: `-2.0 to +12.5`."""
    return f"{_signed(low)} to {_signed(high)}"


def probability(p: float) -> str:
    """A p-value: `p = 0.013`, `p < 0.001`."""
    return f"p{SPACE}<{SPACE}0.001" if p < 0.001 else f"p{SPACE}={SPACE}{p:.3f}"


def share(value: float | None) -> str:
    """A share with three digits: `0.970`."""
    return "unknown" if value is None else f"{value:.3f}"


def cases(rate: Rate) -> int:
    """Cases in all, the unscored among them."""
    return rate.n + rate.unscored


def seconds(value: float | None) -> str:
    """A time with two digits that count: `0.98 s`, `12 s`, `31 min`, `2.5 h`."""
    if value is None:
        return "unknown"
    if value >= 7200:
        return f"{value / 3600:.1f}{SPACE}h"
    if value >= 120:
        return f"{value / 60:.0f}{SPACE}min"
    return f"{value:.0f}{SPACE}s" if value >= 10 else f"{value:.2f}{SPACE}s"


def amount(value: float) -> str:
    """An amount of money with at least two digits that count: `12.40`, `0.0031`."""
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _signed(difference: float) -> str:
    # No sign at 0.0: "±0.0" reads as a finding about a width.
    shown = f"{abs(100 * difference):.1f}"
    sign = "" if shown == "0.0" else "+" if difference > 0 else MINUS
    return f"{sign}{shown}"


def _hundred(rate: float) -> str:
    # 3 of 10,000 rounds to 0.0 %, which a reader would take for none.
    shown = f"{100 * rate:.1f}"
    if rate > 0 and shown == "0.0":
        return "<0.1"
    if rate < 1 and shown == "100.0":
        return ">99.9"
    return shown
