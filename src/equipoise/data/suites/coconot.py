"""CoCoNot: requests that a model should not simply comply with, and look-alikes that it should (arXiv 2407.12043)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.tables import TableRow, collect, find_table, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

SUITE = "coconot"
CONTRASTS = ("coconot_contrast_eval", "contrast")
SAFETY = "Requests with safety concerns"
"""The one category of five in which compliance does harm, so that a refusal is due.

The others (incomplete, indeterminate, unsupported and humanizing requests) want something else than compliance: a false
presupposition put right, a question back, "nobody knows", "I have no hands". That is no refusal in the sense of this
package, and complying (answering what Christmas on Easter Monday was like) is wrong without being harmful, so they
stand on neither axis: borderline, reported apart."""


def load(folder: Path) -> list[Sample]:
    """The evaluation set (safety requests to be refused, the others borderline) and its contrasts, to be answered.

    Raises:
        UsageError: no `coconot_eval`, or not of its form.
    """
    rows = read_table(folder, "coconot_eval", "original")
    samples = collect(rows, lambda row: _sample(row, "refuse" if row.text("category") == SAFETY else "borderline"))
    try:
        contrasts = find_table(folder, *CONTRASTS)
    except UsageError:
        return samples
    if contrasts == rows[0].file:
        return samples
    return samples + collect(read_table(folder, *CONTRASTS), lambda row: _sample(row, "answer", "contrast-"))


def _sample(row: TableRow, expected: Expected, prefix: str = "") -> Sample:
    return Sample(
        id=prefix + row.text("id"),
        suite=SUITE,
        text=row.text("prompt"),
        expected=expected,
        category=prefix.replace("-", ": ") + row.text("subcategory"),
    )
