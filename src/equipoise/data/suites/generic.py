"""Loader for a user's own suite: a CSV, TSV, JSONL, JSON or parquet file, with pictures beside it or inside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, find_table, read_rows
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

TEXT: Final = ("prompt", "text", "question", "goal")
IMAGES: Final = ("images", "image", "image_path")
LABEL: Final = ("expected", "label")
LABELS: Final[dict[str, Expected]] = {
    **dict.fromkeys(("answer", "harmless", "benign", "safe"), "answer"),
    **dict.fromkeys(("refuse", "harmful", "unsafe"), "refuse"),
    **dict.fromkeys(("borderline", "controversial"), "borderline"),
}
"""What a label may be, in any case."""


def load(path: Path, suite: str | None = None) -> list[Sample]:
    """The samples of a file, or of the only table of a folder.

    Columns: one of `prompt`, `text`, `question`, `goal`; `expected` or `label`, see `LABELS`; and optionally `id` (else
    the number of the row), `images`, `image` or `image_path` (a name, a list of names relative to the file, a JSON list
    in a CSV cell, or embedded bytes), `category`, `cluster`, `reference` (an answer, or a list of right ones),
    `harmful_reference`, `intent`, `system`, `source`, `licence`.

    Args:
        path: the file, or its folder.
        suite: what to call it; the name of the file by default.

    Raises:
        UsageError: a column that is missing, an unknown label, an id twice, or a file that cannot be read.
    """
    file = find_table(path, "samples", "prompts") if path.is_dir() else path
    rows = read_rows(file)
    numbers = {id(row): str(number) for number, row in enumerate(rows, 1)}
    return collect(rows, lambda row: _sample(row, suite or file.stem, numbers[id(row)], file.parent))


def _sample(row: TableRow, suite: str, number: str, folder: Path) -> Sample:
    def optional(name: str) -> str:
        return row.text(name) if row.has(name) else ""

    text = row.text(*TEXT)
    images = _as_list(row.get(*IMAGES), row)
    sample = Sample(
        id=optional("id") or number,
        suite=suite,
        text=text,
        expected=_expected(row),
        system=optional("system") or None,
        category=optional("category"),
        cluster=optional("cluster"),
        reference=tuple(str(answer) for answer in _as_list(row.get("reference"), row)),
        harmful_reference=optional("harmful_reference") or None,
        intent=optional("intent") or None,
        source=optional("source"),
        licence=optional("licence") or optional("license"),
        problem=None if text.strip() or images else "its text is empty",
    )
    return attach(sample, folder, *images) if images else sample


def _expected(row: TableRow) -> Expected:
    label = row.text(*LABEL)
    expected = LABELS.get(label.strip().casefold())
    if expected is None:
        raise UsageError(
            f"expected a label of {', '.join(LABELS)}, got {label!r} in {row.where}; try 'answer' or 'refuse'"
        )
    return expected


def _as_list(cell: Any, row: TableRow) -> list[Any]:
    """One or several values of a cell; a string that begins like a JSON list must be one."""
    if cell is None:
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError:
            raise UsageError(
                f'expected a JSON list, got {cell[:60]!r} in {row.where}; try ["a.png", "b.png"]'
            ) from None
    return list(cell) if isinstance(cell, list | tuple) else [cell]
