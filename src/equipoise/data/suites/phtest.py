"""PHTest: pseudo-harmful prompts grown against models, labelled harmless or controversial (arXiv 2409.00598)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.tables import TableRow, collect, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

SUITE = "phtest"
_EXPECTED: dict[str, Expected] = {"harmless": "answer", "controversial": "borderline"}


def load(folder: Path) -> list[Sample]:
    """Harmless prompts, to be answered, and controversial ones, which are borderline as their publishers say.

    Raises:
        UsageError: no `phtest_v0.1`, not of its form, or another label.
    """
    return collect(read_table(folder, "phtest_v0.1", "phtest", "PHTest"), _sample)


def _sample(row: TableRow) -> Sample:
    label = row.text("label")
    if label not in _EXPECTED:
        raise UsageError(
            f"expected label harmless or controversial, got {label!r} in {row.where}; try the published file"
        )
    return Sample(
        id=row.text("id") if row.has("id") else str(row.line),
        suite=SUITE,
        text=row.text("prompt"),
        expected=_EXPECTED[label],
        category=label,
    )
