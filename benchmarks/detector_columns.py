"""Harm detectors side by side: the table's columns, and what a reply costs each of them in one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

from equipoise.guard.detector import load
from equipoise.guard.detector.harm_detector import HarmDetector
from guard_rows import reported

TIMED: Final = 32
"""Replies in a round of the timing."""
ROUNDS: Final = 5


def columns_table(results: Mapping[str, Any]) -> list[str]:
    """A column for each detector: AUC, and what is found at 1 % false alarms of the set's own harmless replies."""
    columns = {"embedded": results, **results.get("others", {})}
    lines = [f"| AUC, found at 1 % false alarms | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in results["areas"]:
        lines.append(f"| {name} | {' | '.join(_area(column['areas'].get(name)) for column in columns.values())} |")
    means = (f"{column['macro']:.3f}, {column['macro_found']:.3f}" for column in columns.values())
    lines.append(f"| **mean of the first four** | {' | '.join(means)} |")
    for name in results["false"]:
        stopped = (f"{column['false'][name]['k']} of {column['false'][name]['n']}" for column in columns.values())
        lines.append(f"| stopped of {name} | {' | '.join(stopped)} |")
    areas = (f"{column['short']['auc']:.3f}" if "short" in column else "" for column in columns.values())
    lines.append(f"| short replies, AUC | {' | '.join(areas)} |")
    for label in ("harmful", "harmless"):
        cells = (_stopped(column.get("short"), label) for column in columns.values())
        lines.append(f"| short {label} replies, stopped by the default policy | {' | '.join(cells)} |")
    times = results.get("milliseconds", {})
    cells = (f"{times[name]:.0f}" if name in times else "" for name in columns)
    return [*lines, f"| ms a reply, alone | {' | '.join(cells)} |"]


def _stopped(row: Mapping[str, Any] | None, label: str) -> str:
    return "" if row is None else f"{row[label]['k']} of {row[label]['n']}"


def _area(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {row['found']:.3f}"


def milliseconds(name: str) -> float:
    """Processor time of one thread for a reply alone: the median over rounds of other replies each."""
    detector = load(name)
    assert isinstance(detector, HarmDetector)
    rows = [labelled.row.evidence for labelled in reported() if labelled.side == "test"]
    times = []
    for number in range(ROUNDS):
        # Other replies in every round, as logits are remembered by window.
        windows = detector.windows(rows[2 * number :: len(rows) // TIMED][:TIMED])
        started = time.process_time()
        for row in windows:
            detector.logits([row])
        times.append(1000 * (time.process_time() - started) / TIMED)
    return round(median(times), 2)
