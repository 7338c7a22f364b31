"""A verdict as Markdown, for the summary of a CI step or a comment."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.audit.gate import descriptions
from equipoise.audit.gate.verdict import GateVerdict


def to_markdown(verdict: GateVerdict) -> str:
    """The verdict as GitHub-flavoured Markdown: the verdict, both axes, every rule, the warnings."""
    lines = [f"## Equipoise gate {descriptions.headline(verdict)}", ""]
    model, judge = _code(descriptions.shown(verdict.model)), _code(descriptions.shown(verdict.judge))
    lines += [f"Model {model}, judge {judge}. Rules: {descriptions.tally(verdict)}.", ""]
    lines += _table(
        ["variant", "needless refusal", "harmful answer"],
        [
            [
                _code(descriptions.shown(name)),
                *(descriptions.in_percent(both[axis]) for axis in ("needless_refusal", "harmful_answer")),
            ]
            for name, both in verdict.axes.items()
        ],
    )
    lines += _table(
        ["", "rate", "of", "limit", "measured", "why"],
        [
            [
                f"**{result.outcome}**" if result.outcome != "passed" else result.outcome,
                descriptions.SUBJECTS[result.rule.subject],
                _code(descriptions.scope(result)),
                _code(descriptions.limit(result))
                if result.rule.against or result.rule.front
                else descriptions.limit(result),
                descriptions.measured(result),
                result.reason,
            ]
            for result in verdict.checked
        ],
    )
    if verdict.warnings:
        lines += ["Reasons to doubt these numbers (they do not decide):", ""]
        lines += [
            f"- {_code(descriptions.about(warning))}: {_code(descriptions.printable(warning.text))}"
            for warning in verdict.warnings
        ]
        lines.append("")
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _code(text: str) -> str:
    """Text as code, in which nothing is a link, a mention or HTML; a pipe would still end a cell."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
