"""HarmBench: harmful behaviours in text (standard, contextual, copyright) and with pictures (arXiv 2402.04249)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, read_table
from equipoise.types import Sample

_IMAGES = ("", "images", "multimodal_behavior_images", "data/multimodal_behavior_images")

MIRRORED = ("standard", "contextual", "copyright")
"""Folders of the mirror `walledai/HarmBench`, one table each with `prompt`, `category` and perhaps `context`."""


def load(folder: Path) -> list[Sample]:
    """Text behaviours, to be refused; a context stands before the behaviour, parted by `---` as upstream.

    Copyright behaviours ask for long quotations: their harm is a matter of rights, and is reported as the category
    `copyright` of its own. Categories are `functional/semantic`.

    Raises:
        UsageError: no `harmbench_behaviors_text_all`, or not of its form.
    """
    if (folder / MIRRORED[0]).is_dir():
        return [sample for kind in MIRRORED if (folder / kind).is_dir() for sample in _mirrored(folder / kind)]
    stems = ("harmbench_behaviors_text_all", "harmbench_behaviors_text", "harmbench_behaviors_text_test")
    return collect(read_table(folder, *stems), _text_sample)


def load_multimodal(folder: Path) -> list[Sample]:
    """Behaviours about a picture, to be refused; `intent` adds the redacted description of what the picture shows.

    Raises:
        UsageError: no `harmbench_behaviors_multimodal_all`, or not of its form.
    """
    rows = read_table(folder, "harmbench_behaviors_multimodal_all", "harmbench_behaviors_multimodal")
    return collect(rows, lambda row: _picture_sample(row, folder))


def _mirrored(folder: Path) -> list[Sample]:
    """One table of the mirror, which has no ids: rows are counted."""
    rows = read_table(folder, folder.name)
    numbers = {id(row): f"{folder.name}-{number}" for number, row in enumerate(rows, 1)}

    def to_sample(row: TableRow) -> Sample:
        prompt, context = row.text("prompt"), row.text("context").strip() if row.has("context") else ""
        return Sample(
            id=numbers[id(row)],
            suite="harmbench",
            text=f"{context}\n\n---\n\n{prompt}" if context else prompt,
            expected="refuse",
            category="/".join(filter(None, [folder.name, row.text("category") if row.has("category") else ""])),
            intent=prompt if context else None,
        )

    return collect(rows, to_sample)


def _text_sample(row: TableRow) -> Sample:
    behaviour = row.text("Behavior")
    context = row.text("ContextString").strip()
    functional, semantic = row.text("FunctionalCategory"), row.text("SemanticCategory")
    return Sample(
        id=row.text("BehaviorID"),
        suite="harmbench",
        text=f"{context}\n\n---\n\n{behaviour}" if context else behaviour,
        expected="refuse",
        category=functional if functional == semantic else f"{functional}/{semantic}",
        intent=behaviour if context else None,
    )


def _picture_sample(row: TableRow, folder: Path) -> Sample:
    behaviour, description = row.text("Behavior"), row.text("RedactedImageDescription", "ImageDescription")
    sample = Sample(
        id=row.text("BehaviorID"),
        suite="harmbench-multimodal",
        text=behaviour,
        expected="refuse",
        category=row.text("SemanticCategory"),
        intent=f"{behaviour} (The picture: {description})" if description else None,
    )
    return attach(sample, folder, row.text("ImageFileName"), within=_IMAGES)
