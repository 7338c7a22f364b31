"""What stands at the top of a frontier's page: what the chosen row costs, and how sure the figures are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from equipoise.audit.frontier.advice import WORDS
from equipoise.audit.frontier.document import Frontier, FrontierRow
from equipoise.audit.labels import AXES

FEW: Final = "few-samples"
"""Kind of the doubt that a rate has few samples."""
LEAST_PROMPTS: Final = 30
"""Prompts of an axis below which the count is called small."""


def costs(row: FrontierRow) -> str:
    """What a row costs, in a sentence."""
    if not row.changes:
        return "Nothing: it is the model without any mitigation."
    ratio, seconds, memory = (row.cost.get(key) for key in ("latency_ratio", "seconds", "memory"))
    fit = row.cost.get("fit_seconds") or 0.0
    parts = ["time of a reply not measured" if ratio is None else f"a reply takes {ratio:.1f} times as long"]
    if ratio is not None and seconds is not None:
        # Both in turn: the plain model alone, minutes before, may have had another machine.
        parts[0] += f" ({seconds:.1f} s here, {seconds / ratio:.1f} s without it)"
    parts.append(f"fitting it once took {max(fit / 60, 1):.0f} min" if fit else "nothing has to be fitted")
    if memory:
        parts.append(f"{memory / 1e6:,.0f} MB more memory")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def uncertainty(frontier: Frontier, row: FrontierRow) -> list[str]:
    """What a reader has to know before acting on the row, a sentence each."""
    # A prompt that was asked with several seeds is one prompt.
    seeds = len(row.folders)
    numbers = [round(row.rates[axis].n / seeds) for axis in AXES]
    counts = " and ".join(
        f"{number:,} {noun}" for number, noun in zip(numbers, ("harmless prompts", "harmful ones"), strict=True)
    )
    repeated = f", each with {seeds} seeds" if seeds > 1 else ""
    sentences = [f"The rates are over {'only ' if min(numbers) < LEAST_PROMPTS else ''}{counts}{repeated}."]
    known = [axis for axis in AXES if axis in row.changes and row.changes[axis].change is not None]
    for axis in known:
        change = row.changes[axis]
        sentences.append(
            f"The change of {WORDS[axis]} lies between {100 * change.low:+.1f} and {100 * change.high:+.1f} points "
            "(95 % interval)."
        )
    others = [other for other in frontier.rows if other.changes]
    if not row.changes and others:
        sentences.append(_least_visible(others))
    if row.membership is not None:
        better = [frontier.rows[index].name for index in row.membership.dominated_by]
        sentences.append(_beaten(100 * row.membership.share, better))
    # How few samples a rate has is in the counts and intervals above.
    others_of_its_own = [doubt for doubt in row.doubts if not doubt.endswith(f"({FEW})")]
    sentences += [f"{doubt[:1].upper()}{doubt[1:]}." for doubt in _alike_once(others_of_its_own)]
    return sentences


def _alike_once(doubts: Sequence[str]) -> list[str]:
    """Each doubt once: those that differ in numbers alone are of other seeds, and stand under Tuning and doubts."""
    groups: dict[str, list[str]] = {}
    for doubt in doubts:
        groups.setdefault(re.sub(r"-?\d+(\.\d+)?", "#", doubt), []).append(doubt)
    return [
        first if not rest else f"{first}; {len(rest)} other seed{'s have' if len(rest) > 1 else ' has'} like numbers"
        for first, *rest in groups.values()
    ]


def _beaten(share: float, better: Sequence[str]) -> str:
    """How often the row stays on the front when the prompts are drawn again; `better` are rows with better points."""
    if better:
        names = " and ".join(better[:2]) + (f" and {len(better) - 2} more" if len(better) > 2 else "")
        more = "" if share < 5 else "; more test prompts would show whether that is real"
        return (
            f"On these prompts {names} did at least as well on both failures and better on one. In {100 - share:.0f} % "
            f"of redrawn sets of prompts some row does{more}."
        )
    return (
        f"In {share:.0f} % of redrawn sets of prompts no other row does at least as well on both failures and better "
        "on one."
    )


def _least_visible(rows: list[FrontierRow]) -> str:
    """How large a change has to be to be seen here: the middle half-width of the intervals."""
    widths = sorted(
        (change.high - change.low) / 2
        for row in rows
        for axis in AXES
        if (change := row.changes[axis]).change is not None
    )
    if not widths:
        return "No change could be compared."
    middle = 100 * widths[len(widths) // 2]
    return f"A change has to be larger than about {middle:.0f} points to be seen here; smaller ones may be there."
