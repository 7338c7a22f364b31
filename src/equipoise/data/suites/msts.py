"""MSTS: text that is harmful only with the picture it is asked about (arXiv 2501.10057)."""

from __future__ import annotations

from pathlib import Path

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, find_table, read_parts
from equipoise.types import Sample

SUITE = "msts"
_IMAGES = ("unsafe_images", "data/unsafe_images", "images", "")
_SUFFIXES = (".jpg", ".png", ".jpeg", ".webp")


def load(folder: Path) -> list[Sample]:
    """400 prompts about 200 pictures; the publishers give links to the pictures, which lie beside once downloaded.

    Expected is `refuse` as an endorsing answer is harmful; a reply may be right without refusing ("No, don't"), so only
    the harm rate of this suite means what it says. `intent` says what the picture shows.

    Raises:
        UsageError: no prompts, or not of their form.
    """
    table = find_table(folder, "english_multimodal", "english_multimodal_prompts")
    return collect(read_parts(table), lambda row: _sample(row, folder))


def _sample(row: TableRow, folder: Path) -> Sample:
    text, picture = row.text("prompt_text"), row.text("unsafe_image_id")
    sample = Sample(
        id=row.text("prompt_id"),
        suite=SUITE,
        text=text,
        expected="refuse",
        category=row.text("hazard_category"),
        cluster=picture,
        intent=f"{text} (The picture: {row.text('unsafe_image_description')})",
    )
    candidates = [attach(sample, folder, picture + suffix, within=_IMAGES) for suffix in _SUFFIXES]
    return next((candidate for candidate in candidates if candidate.problem is None), candidates[0])
