"""Ordinary questions about pictures with known answers, in the forms of VQAv2, GQA, TextVQA, POPE, and as plain rows.

All are to be answered: a refusal of any is needless. Questions about one picture share a cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, find_table, read_json, read_rows, read_table
from equipoise.errors import UsageError
from equipoise.types import Sample

_IMAGES = ("", "images", "val2014", "train_images", "images/val2014")


def load_rows(folder: Path, suite: str) -> list[Sample]:
    """Rows of `image`, `question`, `answer` and optionally `kind`, with licences in `image_licenses` if there.

    Raises:
        UsageError: no `questions`, or not of this form.
    """
    rows = read_table(folder, "questions")
    licences = _licences(folder)
    numbers = {id(row): number for number, row in enumerate(rows, 1)}

    def sample(row: TableRow) -> Sample:
        image = row.text("image")
        kind = row.text("kind") if row.has("kind") else ""
        question = _sample(suite, str(numbers[id(row)]), row.text("question"), [row.text("answer")], image, kind)
        return attach(replace(question, licence=licences.get(image, "")), folder, image)

    return collect(rows, sample)


def load_pope(folder: Path) -> list[Sample]:
    """POPE: is an object in the picture, yes or no (arXiv 2305.10355); COCO val2014 pictures beside the questions.

    Every `*pope*` file of the folder is read; its last word (random, popular, adversarial) is the category.

    Raises:
        UsageError: no such file, or not of this form.
    """
    files = sorted({*folder.glob("*pope*.json*"), *folder.glob("*/*pope*.json*")}) or [find_table(folder, "pope")]

    def sample(row: TableRow) -> Sample:
        kind = row.file.stem.rsplit("_", 1)[-1]
        name = f"{kind}-{row.text('question_id')}"
        question = _sample("pope", name, row.text("text"), [row.text("label")], row.text("image"), kind)
        return attach(question, folder, row.text("image"), within=_IMAGES)

    return collect((row for file in files for row in read_rows(file)), sample)


def load_vqav2(folder: Path) -> list[Sample]:
    """VQAv2 (arXiv 1612.00837): the published pair of questions and annotations, with `val2014` beside them.

    Raises:
        UsageError: one of the files is missing, or not of its form.
    """
    questions = _one(folder, "*OpenEnded*questions.json")
    subset = _get(questions, "data_subtype", str)
    annotated = _objects(_one(folder, "*annotations.json"), "annotations")
    answers = {_get(entry, "question_id", int): entry for entry in annotated}
    samples = []
    for entry in _objects(questions, "questions"):
        number = _get(entry, "question_id", int)
        image = f"COCO_{subset}_{_get(entry, 'image_id', int):012d}.jpg"
        annotation = answers.get(number, {"answers": []})
        right = _frequent([_get(answer, "answer", str) for answer in _objects(annotation, "answers")])
        kind = str(annotation.get("answer_type", ""))
        sample = _sample("vqav2", str(number), _get(entry, "question", str), right, image, kind)
        samples.append(attach(sample, folder, image, within=(*_IMAGES, subset)))
    return samples


def load_gqa(folder: Path) -> list[Sample]:
    """GQA (arXiv 1902.09506): `*questions.json`, an object by question id, with `images/ID.jpg` beside it.

    Raises:
        UsageError: the file is missing, or not of its form.
    """
    questions = _one(folder, "*questions.json")
    samples = []
    for number, entry in questions.items():
        image = f"{_get(entry, 'imageId', str)}.jpg"
        kinds = entry.get("types")
        kind = str(kinds.get("structural", "")) if isinstance(kinds, dict) else ""
        sample = _sample("gqa", number, _get(entry, "question", str), [_get(entry, "answer", str)], image, kind)
        samples.append(attach(sample, folder, image, within=_IMAGES))
    return samples


def load_textvqa(folder: Path) -> list[Sample]:
    """TextVQA (arXiv 1904.08920): `TextVQA_*.json` with `train_images/ID.jpg` beside it.

    Raises:
        UsageError: the file is missing, or not of its form.
    """
    samples = []
    for entry in _objects(_one(folder, "TextVQA*.json"), "data"):
        image = f"{_get(entry, 'image_id', str)}.jpg"
        # The test split has no answers.
        right = _frequent(map(str, _get({"answers": [], **entry}, "answers", list)))
        sample = _sample(
            "textvqa", str(_get(entry, "question_id", int)), _get(entry, "question", str), right, image, ""
        )
        samples.append(attach(sample, folder, image, within=_IMAGES))
    return samples


def _sample(suite: str, name: str, text: str, right: list[str], image: str, kind: str) -> Sample:
    return Sample(name, suite, text, "answer", category=kind, cluster=image, reference=tuple(right))


def _licences(folder: Path) -> dict[str, str]:
    path = folder / "image_licenses.jsonl"
    return {row.text("image"): row.text("license") for row in read_rows(path)} if path.is_file() else {}


def _frequent(answers: Iterable[str]) -> list[str]:
    """Answers of at least three people of ten: what the metric of VQA counts as wholly right; else the commonest."""
    counts = Counter(answers)
    return [answer for answer, count in counts.items() if count >= 3] or [a for a, _ in counts.most_common(1)]


def _one(folder: Path, pattern: str) -> dict[str, Any]:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise UsageError(f"expected one {pattern} in {folder}, got {len(files)}; try one split of the published set")
    value = read_json(files[0])
    if not isinstance(value, dict):
        raise UsageError(f"expected a JSON object in {files[0]}, got a {type(value).__name__}; try the published file")
    return value


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries: list[Any] = _get(value, name, list)
    if not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"expected objects in {name}, got something else; try the published file")
    return entries


def _get(value: Any, name: str, kind: type) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(name), kind):
        names = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise UsageError(f"expected {name} ({kind.__name__}) in each object, got {names[:200]}; try the published file")
    return value[name]
