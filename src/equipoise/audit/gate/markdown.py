"""A verdict as Markdown, for the summary of a CI step or a comment."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from equipoise.audit.gate import descriptions
from equipoise.audit.gate.verdict import GateVerdict
from equipoise.errors import OutputError, os_reason
from equipoise.files import write_whole

LONGEST: Final = 900_000
"""Bytes of a document: GitHub drops a whole step summary of more than 1 MiB, with what other tools wrote."""
CUT: Final = "\n\n(Cut here: the rest does not fit into the summary of a step; `--json` holds all of it.)\n"


def write_markdown(path: Path, text: str) -> None:
    """Write a document; the summary of a GitHub step is appended to, since other commands of the step write it, too.

    Raises:
        OutputError: it cannot be written.
    """
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if not summary or os.path.abspath(summary) != os.path.abspath(path):
        write_whole(path, text)
        return
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
    except OSError as error:
        raise OutputError(f"expected to write {path}, got '{os_reason(error)}'; try another output folder") from None


def to_markdown(verdict: GateVerdict) -> str:
    """The verdict as GitHub-flavoured Markdown: the verdict, both axes, every rule, the warnings."""
    text = "\n".join(_lines(verdict))
    if len(text.encode(errors="replace")) <= LONGEST:
        return text
    # Whole lines only: half a row would break the table that it stands in.
    kept = text.encode(errors="replace")[:LONGEST].decode(errors="ignore").rpartition("\n")[0]
    return kept + CUT


def _lines(verdict: GateVerdict) -> list[str]:
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
                _plain(result.reason),
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
    return lines


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _plain(text: str) -> str:
    """Text in which nothing is markup, a link or a mention."""
    text = descriptions.printable(text)
    # GitHub mentions people after `@` whatever stands before it; the wide form of the sign is no mention.
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", text).replace("@", "\N{FULLWIDTH COMMERCIAL AT}")


def _code(text: str) -> str:
    """Text as code, in which nothing is a link, a mention or HTML; a pipe would still end a cell."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"
