"""A verdict in words, the same in every form; names from files come out harmless."""

from __future__ import annotations

from typing import Final

from equipoise.audit.gate.verdict import CheckedRule, GateVerdict, Overall
from equipoise.audit.labels import RateName
from equipoise.audit.warnings import AuditWarning
from equipoise.stats.estimates import Estimate, PairedChange

RATES: Final[dict[RateName, str]] = {
    "needless_refusal": "needless refusal",
    "harmful_answer": "harmful answer",
    "full_refusal": "full refusal",
    "accuracy": "accuracy",
    "capability_failure": "capability failure",
    "needless_rebuttal": "needless rebuttal",
    "needless_clarification": "needless question back",
}
SUBJECTS: Final[dict[str, str]] = {str(rate): words for rate, words in RATES.items()} | {
    "frontier": "front of both axes"
}
"""What rules limit, by `GateRule.subject`."""
ENDS: Final = {"upper": "upper end", "point": "rate", "lower": "lower end"}
HEADLINES: Final[dict[Overall, str]] = {
    "passed": "passed: every limit is kept",
    "failed": "failed: a limit is broken",
    "inconclusive": "inconclusive: too little is known to say that every limit is kept",
    "partial": "partial: not every sample was asked and judged; give the audit command again, it goes on",
}
LONGEST: Final = 120
"""Characters of a name that are shown."""


def printable(text: str) -> str:
    """Text in one line: no control sequences, no marks that turn the direction of what follows."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shown(name: object) -> str:
    """A name in one printable line that is not too long."""
    text = printable(str(name))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def about(warning: AuditWarning) -> str:
    """What a warning is about: `perturbed, xstest, needless refusal`."""
    parts = [warning.variant or "run", *([warning.suite] if warning.suite else [])]
    return ", ".join([*map(shown, parts), *([RATES[warning.rate]] if warning.rate else [])])


def scope(checked: CheckedRule) -> str:
    """What a rule looks at: `plain, xstest, category homonyms`."""
    rule = checked.rule
    parts = [rule.variant, *(rule.suites or ("all suites",))]
    if rule.category is not None:
        parts.append(f"category {rule.category}")
    return ", ".join(shown(part) for part in parts)


def limit(checked: CheckedRule) -> str:
    """What a rule asks for: `upper end at most 5.0 %`."""
    bound, against, front = checked.rule.limit, checked.rule.against, checked.rule.front
    if front is not None:
        return f"on the front of {shown(front.run)} in at least {percent(front.min_share)} of resamples"
    if against is None:
        return f"{ENDS[bound.on]} at {'most' if bound.side == 'max' else 'least'} {percent(bound.value)}"
    end = "change" if bound.on == "point" else f"{ENDS[bound.on]} of the change"
    least = "most" if bound.side == "max" else "least"
    return f"{end} at {least} {points(bound.value)} against {shown(checked.baseline or against.variant)}"


def title(checked: CheckedRule) -> str:
    """The rule in one line."""
    return f"{SUBJECTS[checked.rule.subject]} ({scope(checked)}): {limit(checked)}"


def measured(checked: CheckedRule) -> str:
    """What was measured, with its interval and counts."""
    if checked.standing is not None:
        share = checked.standing.share
        return "unknown" if share is None else f"on the front in {percent(share)} of resamples"
    if checked.change is not None:
        return in_points(checked.change)
    return in_percent(checked.estimate) if checked.estimate is not None else ""


def in_percent(rate: Estimate) -> str:
    """A rate: `15.0 % [7.1, 29.1] 6/40, 2 unscored`."""
    value = "unknown" if rate.rate is None else percent(rate.rate)
    extra = f", {rate.unscored} unscored" if rate.unscored else ""
    extra += f", {rate.review} under review" if rate.review else ""
    return f"{value} [{100 * rate.low:.1f}, {100 * rate.high:.1f}] {rate.k}/{rate.n}{extra}"


def in_points(change: PairedChange) -> str:
    """A change: `+60.0 points [+41.0, +72.3] 40 pairs`."""
    value = "unknown" if change.change is None else points(change.change)
    extra = f", {change.unscored} unscored" if change.unscored else ""
    return f"{value} [{100 * change.low:+.1f}, {100 * change.high:+.1f}] {change.n} pairs{extra}"


def percent(share: float) -> str:
    """`5.0 %`."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """`+2.0 points`."""
    return f"{100 * difference:+.1f} points"


def headline(verdict: GateVerdict) -> str:
    """The verdict in one line."""
    return HEADLINES[verdict.outcome]


def tally(verdict: GateVerdict) -> str:
    """How many rules ended how."""
    counts = ((verdict.count(outcome), outcome) for outcome in ("passed", "failed", "inconclusive"))
    return ", ".join(f"{count} {outcome}" for count, outcome in counts)
