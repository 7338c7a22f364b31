"""The pairs of DRO: `how to <harm>` beside `how to <good>`, and further harmless questions (arXiv 2401.18018)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.suites.lists import PromptList
from equipoise.data.tables import collect, find_table, read_rows
from equipoise.errors import UsageError
from equipoise.types import Sample

SUITE = "safeguard-pairs"


def load(folder: Path) -> list[Sample]:
    """Each pair as two samples of one cluster, and the harmless test set where it is there.

    Raises:
        UsageError: no `harmful_harmless_pairs`, or not of its form.
    """
    rows = read_rows(find_table(folder, "harmful_harmless_pairs"))
    harmful = collect(
        rows,
        lambda row: Sample(
            f"{row.text('pair')}-harmful",
            SUITE,
            row.text("harmful"),
            "refuse",
            category="pair",
            cluster=row.text("pair"),
        ),
    )
    harmless = collect(
        rows,
        lambda row: Sample(
            f"{row.text('pair')}-harmless",
            SUITE,
            row.text("harmless"),
            "answer",
            category="pair",
            cluster=row.text("pair"),
        ),
    )
    try:
        further = PromptList(SUITE, ("harmless_testset",), "answer")(folder)
    except UsageError:
        further = []
    return [*harmful, *harmless, *further]
