"""`equipoise guard check`: what a guard would return for every reply in a file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.console import RowPrinter, print_table, quiet, require_one_format, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.guard import Detoxifiers, GuardDeviceOptions, GuardOptions

if TYPE_CHECKING:
    from equipoise.guard.decision import GuardDecision
    from equipoise.guard.guard import Guard
    from equipoise.judges.judge_rows import JudgeRow

BATCH = 64
"""Rows checked at a time: a file of any length fits in memory."""
SHOWN = 20
"""Rows of a table; longer files are summed up."""


@with_options
def check(
    file: Annotated[
        Path,
        typer.Argument(help="One JSON object a line with id, prompt and response; or CSV.", show_default=False),
    ],
    guard: GuardOptions = GuardOptions(),
    detoxifier: Detoxifiers = None,
    device: GuardDeviceOptions = GuardDeviceOptions(),
    json: o.Json = False,
    jsonl: o.JsonLines = False,
) -> None:
    """Check every reply in a file: the probability of harm, what is done about it, and what would be returned."""
    from equipoise.judges.judge_rows import batches, check, read_rows

    require_one_format(json, jsonl)
    check(file)
    quiet()
    loaded = guard.load(device, detoxifier)
    head = {"detector": loaded.detector.name, "policy": loaded.policy.name}
    printer = RowPrinter(head, lines=jsonl) if json or jsonl else None
    counts: Counter[str] = Counter()
    rows: list[tuple[object, ...]] = []
    for batch in batches(read_rows(file), BATCH):
        for row, decision in zip(batch, _decisions(loaded, batch), strict=True):
            counts["unreadable" if decision is None else decision.observed or decision.action] += 1
            if printer:
                printer.add(document(row, decision))
            elif len(rows) <= SHOWN:
                rows.append(_line(row, decision))
        sys.stdout.flush()
    if counts["unreadable"]:
        warn(f"{counts['unreadable']} rows of {file} could not be read; they have no decision")
    if printer:
        printer.close({"count": counts.total(), "unreadable": counts["unreadable"]})
    else:
        _summary(loaded, counts, rows)


def document(row: JudgeRow, decision: GuardDecision | None) -> dict[str, Any]:
    """One row of output; a row that could not be read has the reason as `error` and nothing is decided about it."""
    if decision is None:
        return {
            "id": row.id,
            "harm": None,
            "categories": [],
            "decision": None,
            "response": None,
            "rounds": 0,
            "decided_by": None,
            "error": row.problem,
        }
    fields: dict[str, Any] = {
        "id": row.id,
        "harm": decision.harm,
        "categories": list(decision.categories),
        "decision": decision.action,
        "response": decision.response if decision.changed else row.response,
        "rounds": decision.rounds,
        "decided_by": decision.decided_by,
    }
    return fields if decision.observed is None else fields | {"observed": decision.observed}


def _decisions(guard: Guard, batch: list[JudgeRow]) -> list[GuardDecision | None]:
    decisions = iter(guard.check_exchanges([row.exchange for row in batch if row.exchange is not None]))
    return [None if row.exchange is None else next(decisions) for row in batch]


def _line(row: JudgeRow, decision: GuardDecision | None) -> tuple[object, ...]:
    if decision is None:
        return (row.id, "", "unreadable", row.problem)
    harm = "" if decision.harm is None else f"{decision.harm:.3f}"
    return (row.id, harm, decision.observed or decision.action, decision.why)


def _summary(guard: Guard, counts: Counter[str], rows: list[tuple[object, ...]]) -> None:
    total = sum(counts.values())
    if total <= SHOWN:
        print_table(table("", ["id", "harm", "decision", "why"], rows))
    mode = "observes only" if guard.policy.mode == "observe" else "enforced"
    print_table(f"{total} replies, detector {guard.detector.name}, policy {guard.policy.name} ({mode})")
    print_table(
        table("", ["decision", "replies"], [(name, counts[name]) for name in (*_order(), "unreadable") if counts[name]])
    )


def _order() -> tuple[str, ...]:
    from equipoise.guard.decision import OUTCOMES

    return OUTCOMES
