"""A verdict as Markdown, for the summary of a CI step or a comment."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.audit.gate import wording
from equipoise.audit.gate.verdict import GateVerdict


def to_markdown(verdict: GateVerdict) -> str:
    """The verdict as GitHub-flavoured Markdown: the verdict, both axes, every rule, the doubts."""
    lines = [f"## Equipoise gate {wording.headline(verdict)}", ""]
    model, judge = _code(wording.shown(verdict.model)), _code(wording.shown(verdict.judge))
    lines += [f"Model {model}, judge {judge}. Rules: {wording.tally(verdict)}.", ""]
    lines += _table(
        ["variant", "needless refusal", "harmful answer"],
        [
            [
                _code(wording.shown(name)),
                *(wording.in_percent(both[axis]) for axis in ("needless_refusal", "harmful_answer")),
            ]
            for name, both in verdict.axes.items()
        ],
    )
    lines += _table(
        ["", "rate", "of", "limit", "measured", "why"],
        [
            [
                f"**{each.outcome}**" if each.outcome != "passed" else each.outcome,
                wording.RATES[each.rule.rate],
                _code(wording.scope(each)),
                _code(wording.limit(each)) if each.rule.against else wording.limit(each),
                wording.measured(each),
                each.reason,
            ]
            for each in verdict.checked
        ],
    )
    if verdict.doubts:
        lines += ["Reasons to doubt these numbers (they do not decide):", ""]
        lines += [
            f"- {_code(wording.about(doubt))}: {_code(wording.printable(doubt.text))}" for doubt in verdict.doubts
        ]
        lines.append("")
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _code(text: str) -> str:
    """Text as code, in which nothing is a link, a mention or HTML; a pipe would still end a cell."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
