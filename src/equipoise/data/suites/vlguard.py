"""VLGuard: safe and unsafe pictures with instructions (arXiv 2402.02207); its pictures are gated and come apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

SUITE = "vlguard"
_KINDS: dict[str, Expected] = {"safe_instruction": "answer", "unsafe_instruction": "refuse", "instruction": "refuse"}
_IMAGES = ("test", "images", "")


def load(folder: Path) -> list[Sample]:
    """A safe picture has a safe and an unsafe instruction, an unsafe one an instruction that makes use of it.

    Only the safe instruction is to be answered. All instructions of a picture share a cluster.

    Raises:
        UsageError: no `test`, not of its form, or an id twice.
    """
    samples: dict[str, Sample] = {}
    for row in read_table(folder, "test"):
        for kind, text in _instructions(row):
            sample = _sample(row, kind, text, folder)
            if samples.setdefault(sample.id, sample) is not sample:
                raise UsageError(
                    f"expected different ids, got {sample.id!r} again in {row.where}; try the published file"
                )
    return list(samples.values())


def _instructions(row: TableRow) -> list[tuple[str, str]]:
    pairs: Any = row.get("instr-resp")
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise UsageError(f"expected a list of objects in instr-resp, got none in {row.where}; try the published file")
    return [(kind, str(pair[kind])) for pair in pairs for kind in _KINDS if kind in pair]


def _sample(row: TableRow, kind: str, text: str, folder: Path) -> Sample:
    image = row.text("image")
    group = "safe picture" if row.get("safe") else "unsafe picture"
    sample = Sample(
        id=f"{row.text('id')}-{kind.removesuffix('_instruction')}",
        suite=SUITE,
        text=text,
        expected=_KINDS[kind],
        category=f"{group}, {kind.replace('_', ' ')}",
        cluster=image,
    )
    return attach(sample, folder, image, within=_IMAGES)
