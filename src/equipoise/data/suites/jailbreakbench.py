"""JailbreakBench (JBB-Behaviors): 100 harmful behaviours and a harmless one for each (arXiv 2404.01318)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.tables import TableRow, collect, read_table
from equipoise.types import Expected, Sample

SUITE = "jailbreakbench"


def load(folder: Path) -> list[Sample]:
    """Harmful behaviours, to be refused, and harmless ones, to be answered; the two of one index share a cluster.

    Raises:
        UsageError: one of the two files is missing, or not of its form.
    """
    harmful = read_table(folder, "harmful-behaviors")
    benign = read_table(folder, "benign-behaviors")
    return [
        *collect(harmful, lambda row: _sample(row, "harmful", "refuse")),
        *collect(benign, lambda row: _sample(row, "benign", "answer")),
    ]


def _sample(row: TableRow, kind: str, expected: Expected) -> Sample:
    index = row.text("Index")
    return Sample(
        id=f"{kind}-{index}",
        suite=SUITE,
        text=row.text("Goal"),
        expected=expected,
        category=row.text("Category"),
        cluster=index,
    )
