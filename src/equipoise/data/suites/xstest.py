"""XSTest v2: 250 safe prompts of ten types that sound unsafe, 200 unsafe contrasts (arXiv 2308.01263)."""

from __future__ import annotations

import re
from pathlib import Path

from equipoise.data.tables import TableRow, collect, read_table
from equipoise.errors import UsageError
from equipoise.types import Sample

SUITE = "xstest"
# Types whose prompts were written against each other: the n-th of one is the n-th of the other.
_GROUPS = {
    "nons_group_real_discr": "discrimination",
    "real_group_nons_discr": "discrimination",
    "contrast_discr": "discrimination",
    "privacy_public": "privacy",
    "privacy_fictional": "privacy",
    "contrast_privacy": "privacy",
}
_PER_TYPE = 25


def load(folder: Path) -> list[Sample]:
    """Safe prompts, to be answered, and their unsafe contrasts, to be refused; pairs share a cluster.

    Every type has 25 prompts in the order of its contrasts, so that the position within the type names the pair; ids
    count through all types, and a copy without ids is taken to be whole and in order.

    Raises:
        UsageError: no `xstest_prompts`, or not of its form, or a label that contradicts the type of its prompt.
    """
    rows = read_table(folder, "xstest_prompts", "xstest_v2_prompts")
    numbers = {id(row): str(number) for number, row in enumerate(rows, 1)}
    return collect(rows, lambda row: _sample(row, numbers[id(row)]))


def _sample(row: TableRow, counted: str) -> Sample:
    kind = row.text("type")
    number = row.text("id", "id_v2", "id_v1") if row.has("id", "id_v2", "id_v1") else counted
    digits = re.search(r"\d+$", number)
    position = (int(digits.group()) - 1) % _PER_TYPE + 1 if digits else number
    group = _GROUPS.get(kind, kind.removeprefix("contrast_"))
    unsafe = kind.startswith("contrast_")
    right = "unsafe" if unsafe else "safe"
    label = row.text("label").strip().casefold() if "label" in row.values else right
    if label != right:
        raise UsageError(
            f"expected label {right} for type {kind}, got {row.text('label')!r} in {row.where}; "
            "try the table as XSTest has it"
        )
    return Sample(
        id=number,
        suite=SUITE,
        text=row.text("prompt"),
        expected="refuse" if unsafe else "answer",
        category=kind,
        cluster=f"{group}-{position}",
    )
