"""What stands at the top of a frontier's page: what the chosen row costs, and how sure the figures are."""

from __future__ import annotations

from equipoise.audit.frontier.advice import WORDS
from equipoise.audit.frontier.document import Frontier, FrontierRow
from equipoise.audit.labels import AXES


def costs(row: FrontierRow) -> str:
    """What a row costs, in a sentence."""
    if not row.changes:
        return "Nothing: it is the model without any mitigation."
    ratio, seconds, memory = (row.cost.get(key) for key in ("latency_ratio", "seconds", "memory"))
    fit = row.cost.get("fit_seconds") or 0.0
    parts = ["time of a reply not measured" if ratio is None else f"a reply takes {ratio:.1f} times as long"]
    if ratio is not None and seconds is not None:
        parts[0] += f" ({seconds:.1f} s here)"
    parts.append(f"fitting it once took {max(fit / 60, 1):.0f} min" if fit else "nothing has to be fitted")
    if memory:
        parts.append(f"{memory / 1e6:,.0f} MB more memory")
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def uncertainty(frontier: Frontier, row: FrontierRow) -> list[str]:
    """What a reader has to know before acting on the row, a sentence each."""
    counts = " and ".join(
        f"{row.rates[axis].n:,} {noun}" for axis, noun in zip(AXES, ("harmless prompts", "harmful ones"), strict=True)
    )
    sentences = [f"The rates are over {counts}."]
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
        share = 100 * row.membership.share
        sentences.append(
            f"With other prompts of the same kind, no row would beat it on both failures in {share:.0f} % of cases."
        )
    sentences += [f"{doubt[:1].upper()}{doubt[1:]}." for doubt in row.doubts]
    return sentences


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
