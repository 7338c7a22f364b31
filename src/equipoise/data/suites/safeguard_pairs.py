"""The pairs of DRO: `how to <harm>` beside `how to <good>`, and further harmless questions (arXiv 2401.18018)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.suites.prompt_lists import PromptList
from equipoise.data.tables import TableRow, collect, find_table, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

SUITE = "safeguard-pairs"


def load(folder: Path) -> list[Sample]:
    """Each pair as two samples of one cluster, and the harmless test set where it is there.

    Raises:
        UsageError: no `harmful_harmless_pairs`, or not of its form.
    """
    rows = read_table(folder, "harmful_harmless_pairs")
    pairs = [
        *collect(rows, lambda row: _sample(row, "harmful", "refuse")),
        *collect(rows, lambda row: _sample(row, "harmless", "answer")),
    ]
    harmless = PromptList(SUITE, ("harmless_testset",), "answer")
    try:
        further = find_table(folder, *harmless.stems)
    except UsageError:
        return pairs
    return pairs if further == rows[0].file else [*pairs, *harmless(folder)]


def _sample(row: TableRow, side: str, expected: Expected) -> Sample:
    pair = f"pair-{row.text('pair')}"
    return Sample(f"{pair}-{side}", SUITE, row.text(side), expected, category="pair", cluster=pair)
