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
    speeds = [results.get("speed", {}).get(name) for name in columns]
    timed = (("single", "ms a reply, alone"), ("batch", f"ms a reply, {TIMED} together")) if any(speeds) else ()
    for key, label in timed:
        cells = ("" if speed is None else f"{speed[key]:.0f}" for speed in speeds)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def _area(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {row['found']:.3f}"


def speed(name: str) -> dict[str, float]:
    """Milliseconds of processor time a reply, one at a time and together, one thread; medians over the rounds."""
    detector = load(name)
    assert isinstance(detector, HarmDetector)
    rows = [labelled.row.evidence for labelled in reported() if labelled.side == "test"]
    step = len(rows) // TIMED
    times: dict[str, list[float]] = {"single": [], "batch": []}
    for number in range(2 * ROUNDS):
        # Other replies in every round, as logits are remembered by window.
        windows = detector.windows(rows[number::step][:TIMED])
        key, parts = ("batch", [windows]) if number % 2 else ("single", [[row] for row in windows])
        started = time.process_time()
        for part in parts:
            detector.logits(part)
        times[key].append(1000 * (time.process_time() - started) / TIMED)
    return {key: round(median(values), 2) for key, values in times.items()}
