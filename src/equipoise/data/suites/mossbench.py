"""MOSSBench: harmless questions about pictures that models shy away from, and harmful contrasts (arXiv 2406.17806)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, find_table, read_parts, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

SUITE = "mossbench"
_TYPES = {
    "type 1": "exaggerated risk",
    "type 2": "negated harm",
    "type 3": "counterintuitive interpretation",
}
_IMAGES = ("", "images")


def load(folder: Path) -> list[Sample]:
    """Questions, to be answered, and their contrasts about the same or a changed picture, to be refused.

    Both files count by `pid`; the two of one pid share a cluster, and the contrast's id ends in `-contrast`. The
    contrasts are optional: the set was first published without them.

    Raises:
        UsageError: no `questions`, or not of its form.
    """
    rows = read_table(folder, "questions", "information")
    samples = collect(rows, lambda row: _sample(row, folder, "answer"))
    try:
        contrasts = find_table(folder, "contrast_questions", "contrast")
    except UsageError:
        return samples
    if contrasts == rows[0].file:
        return samples
    return samples + collect(read_parts(contrasts), lambda row: _sample(row, folder, "refuse"))


def _sample(row: TableRow, folder: Path, expected: Expected) -> Sample:
    pid = row.text("pid")
    kind = row.text("over_type", "over") if row.has("over_type", "over") else ""
    sample = Sample(
        id=pid if expected == "answer" else f"{pid}-contrast",
        suite=SUITE,
        text=row.text("question"),
        expected=expected,
        category=_TYPES.get(kind, kind),
        cluster=pid,
    )
    return attach(sample, folder, row.get("image", "image_path"), within=_IMAGES)
