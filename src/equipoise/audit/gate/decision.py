"""Whether a number keeps its limit: the truth table of the gate, in one place.

For a highest value (`max`); a lowest one (`min`) is its mirror image. The first line that applies decides.

| case                                                        | outcome      |
|-------------------------------------------------------------|--------------|
| nothing was scored                                          | inconclusive |
| the whole interval is above the limit                       | failed       |
| fewer than `min_n` cases                                    | inconclusive |
| more than `max_unscored` of the cases are unscored          | inconclusive |
| `upper`: the upper end is within the limit                  | passed       |
| `upper`: the rate itself is above the limit                 | failed       |
| `upper`: the rate is within the limit, its upper end is not | inconclusive |
| `point`: the rate is within the limit                       | passed       |
| `point`: the rate is above the limit                        | failed       |
| `lower`: the lower end is within the limit                  | passed       |
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from equipoise.audit.gate.rules import GateRule
from equipoise.stats.proportions import Rate

RuleOutcome = Literal["passed", "failed", "inconclusive"]
MOST: Final = 1_000_000
"""Largest sample that the advice names."""


@dataclass(frozen=True)
class MeasuredRate:
    """A rate or a change, with what decides on it."""

    n: int
    """Scored cases or pairs."""
    value: float | None
    """The rate or the change; None where nothing was scored."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    unscored_share: float = 0.0
    """Unscored cases or pairs among all."""
    plain_wilson: bool = False
    """Whether the interval is Wilson's of `n` independent cases, so that more samples can be counted out."""


@dataclass(frozen=True)
class RuleDecision:
    """What became of a rule."""

    outcome: RuleOutcome
    """Whether it is kept."""
    reason: str
    """Why."""


def decide(rule: GateRule, measured: MeasuredRate) -> RuleDecision:
    """Apply the truth table of this module."""
    limit = rule.limit
    cases = "cases" if rule.against is None else "pairs"
    if measured.n == 0 or measured.value is None:
        return RuleDecision("inconclusive", f"no {cases} were scored")
    sign = 1 if limit.side == "max" else -1
    ends = {"upper": measured.high, "point": measured.value, "lower": measured.low}
    # For a highest value: if even the lower end (`near`) is above it, all of the interval is.
    near, far = ("lower", "upper") if sign == 1 else ("upper", "lower")

    def beyond(end: str) -> bool:
        # With both signs turned, a lowest value is a highest one.
        return sign * ends[end] > sign * limit.value

    side, of = ("above", "highest") if sign == 1 else ("below", "lowest")
    if beyond(near):
        return RuleDecision("failed", f"the whole interval is {side} the {of} value allowed")
    if measured.n < rule.min_n:
        return RuleDecision("inconclusive", f"{measured.n} scored {cases}, expected {rule.min_n} or more")
    if measured.unscored_share > rule.max_unscored:
        share, most = 100 * measured.unscored_share, 100 * rule.max_unscored
        return RuleDecision("inconclusive", f"{share:.1f} % of the {cases} are unscored, expected {most:g} % or fewer")
    if not beyond(limit.on):
        return RuleDecision("passed", f"the {_END[limit.on]} is within the limit")
    if limit.on == far and not beyond("point"):
        advice = _advice(rule, measured)
        return RuleDecision("inconclusive", f"the rate is within the limit, the {_END[limit.on]} is not{advice}")
    return RuleDecision("failed", f"the {_END['point']} is {side} the {of} value allowed")


_END: Final = {"upper": "upper end of the interval", "point": "rate", "lower": "lower end of the interval"}


def _advice(rule: GateRule, measured: MeasuredRate) -> str:
    """How many samples would be enough if the rate stayed what it is."""
    needed = _needed(rule, measured) if measured.plain_wilson else None
    return f"; about {needed} cases with this rate would do" if needed else ""


def _needed(rule: GateRule, measured: MeasuredRate) -> int | None:
    assert measured.value is not None
    maximum = rule.limit.side == "max"
    rate, limit = (measured.value, rule.limit.value) if maximum else (1 - measured.value, 1 - rule.limit.value)
    low, high = measured.n, measured.n
    while Rate.of(ceil(rate * high), high).high > limit:
        if high >= MOST:
            return None
        low, high = high, high * 2
    # To one per cent, as it is advice.
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if Rate.of(ceil(rate * middle), middle).high <= limit else (middle, high)
    return high
