"""Suites in which picture and text decide together whether a request is safe, each with its safe half.

A picture of a cliff beside "how do I jump?" is another request than a picture of a pool: what a model should do follows
from both. The safe halves measure safe pictures and texts that are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, find_table, read_json, read_rows, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

IMAGES: Final = ("images", "data/images", "")
SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".webp")
GRADES: Final[dict[str, Expected]] = {"safe": "answer", "borderline": "borderline", "unsafe": "refuse"}
"""VLSU's grades of picture and text together."""


def load_holisafe(folder: Path) -> list[Sample]:
    """HoliSafe-Bench (arXiv 2506.04704): combinations of safe and unsafe; the last letter of `type` is that of both.

    Only `SSS` is to be answered. The type is the category, so that each combination has a rate of its own.

    Raises:
        UsageError: no `holisafe_bench`, or not of its form.
    """

    def sample(row: TableRow) -> Sample:
        kind = row.text("type").strip().upper()
        if len(kind) != 3 or set(kind) - {"S", "U"}:
            raise UsageError(f"expected a type such as SSS or SSU, got {kind!r} in {row.where}; try the published file")
        expected: Expected = "answer" if kind.endswith("S") else "refuse"
        own = Sample(
            row.text("id"), "holisafe", row.text("query"), expected, category=kind, cluster=_name(row, "image")
        )
        return attach(own, folder, row.get("image"), within=IMAGES)

    return collect(read_table(folder, "holisafe_bench", "test", "holisafe"), sample)


def load_mssbench(folder: Path) -> list[Sample]:
    """MSSBench's chat tasks (arXiv 2410.06172): each question about a safe and an unsafe situation.

    Both pictures of an entry and all its questions are one cluster. Its embodied tasks give instructions to robots and
    are left out.

    Raises:
        UsageError: no `combined.json`, or not of its form.
    """
    path = find_table(folder, "combined")
    document = read_json(path)
    entries = document.get("chat") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"expected a list of objects under chat in {path}, got none; try the published file")
    rows = [TableRow(entry, path, number) for number, entry in enumerate(entries, 1)]
    return [sample for row in rows for sample in _situations(row, folder)]


def _situations(row: TableRow, folder: Path) -> Iterator[Sample]:
    queries = row.get("queries")
    texts: Sequence[Any] = [queries] if isinstance(queries, str) else queries or ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"expected a list of texts in queries, got none in {row.where}; try the published file")
    halves: tuple[tuple[str, Expected], ...] = (("safe", "answer"), ("unsafe", "refuse"))
    kind = row.text("Type") if row.has("Type") else ""
    for half, expected in halves:
        for number, text in enumerate(texts, 1):
            own = Sample(
                f"{row.line}-{number}-{half}", "mssbench", text, expected,
                category=", ".join(filter(None, [kind, half])), cluster=str(row.line),
            )  # fmt: skip
            yield attach(own, folder, row.text(f"{half}_image_path"), within=("chat", "mssbench/chat", *IMAGES))


def load_siuo(folder: Path) -> list[Sample]:
    """SIUO (arXiv 2406.15279): safe pictures with safe texts that are unsafe together. It has no safe half.

    Raises:
        UsageError: no `siuo_gen`, or not of its form.
    """

    def sample(row: TableRow) -> Sample:
        own = Sample(
            row.text("question_id", "id"), "siuo", row.text("question"), "refuse",
            category=row.text("category") if row.has("category") else "", cluster=_name(row, "image"),
        )  # fmt: skip
        return attach(own, folder, row.get("image"), within=IMAGES)

    return collect(read_table(folder, "siuo_gen"), sample)


def load_vlsu(folder: Path) -> list[Sample]:
    """VLSU (arXiv 2510.18214): picture and text graded apart and together; the grade of both counts.

    The publishers give addresses of the pictures. A picture is looked for by the row's `uuid` and by the last part of
    its address. Rows that people were not sure of are left out.

    Raises:
        UsageError: no `VLSU`, not of its form, or another grade.
    """

    def sample(row: TableRow) -> Sample:
        grade = row.text("consensus_combined_grade").strip().lower()
        if grade not in GRADES:
            raise UsageError(
                f"expected a grade of {', '.join(GRADES)}, got {grade!r} in {row.where}; try the published file"
            )
        own = Sample(
            row.text("uuid"), "vlsu", row.text("prompt"), GRADES[grade],
            category=row.text("combined_category") if row.has("combined_category") else "", cluster=row.text("uuid"),
        )  # fmt: skip
        address = PurePosixPath(urlsplit(row.text("web_path")).path).name
        names = [*(row.text("uuid") + suffix for suffix in SUFFIXES), *([address] if address else [])]
        candidates = [attach(own, folder, name, within=IMAGES) for name in names]
        return next((candidate for candidate in candidates if candidate.problem is None), candidates[0])

    rows = read_rows(find_table(folder, "VLSU", "vlsu"))
    return collect([row for row in rows if row.text("consensus_combined_grade").strip().lower() != "not_sure"], sample)


def _name(row: TableRow, column: str) -> str:
    """The name of a picture as that of a cluster; empty where its bytes are embedded."""
    name = row.get(column)
    return name if isinstance(name, str) else ""
