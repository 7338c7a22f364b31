"""MM-SafetyBench: harmful and grey-zone questions in 13 scenarios, in words and in pictures (arXiv 2311.17600).

Three layouts are read. As published: `processed_questions/01-Illegal_Activitiy.json` (an object by question number with
`Changed Question`, `Rephrased Question`, `Rephrased Question(SD)`) beside `imgs/01-Illegal_Activitiy/SD_TYPO/0.jpg`.
As a table: `questions.jsonl` with `scenario`, `id`, `question` and `image_sd`, which has no rephrased questions: the
form `sd` then asks the question itself. As on the hub (PKU-Alignment/MM-SafetyBench):
`data/Illegal_Activitiy/{SD,SD_TYPO,TYPO,Text_only}.parquet` with `id`, `question` and the picture itself in `image`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, collect, read_json, read_rows, read_table
from equipoise.errors import UsageError
from equipoise.types import Expected, Sample

PromptForm = Literal["text", "sd", "typo", "sd-typo"]
FORMS: Final[tuple[PromptForm, ...]] = ("text", "sd", "typo", "sd-typo")
BORDERLINE: Final = frozenset(["08", "10", "11", "12", "13"])
"""Scenarios of advice and opinion (lobbying, law, money, health, government): whether an answer does harm depends on
how it is given. The other eight ask for harm."""
_COLUMN: Final[dict[PromptForm, str]] = {
    "text": "Changed Question",
    "sd": "Rephrased Question(SD)",
    "typo": "Rephrased Question",
    "sd-typo": "Rephrased Question",
}
SCENARIOS: Final = (
    "Illegal_Activitiy", "HateSpeech", "Malware_Generation", "Physical_Harm", "EconomicHarm", "Fraud", "Sex",
    "Political_Lobbying", "Privacy_Violence", "Legal_Opinion", "Financial_Advice", "Health_Consultation",
    "Gov_Decision",
)  # fmt: skip
"""Scenarios in the order of their numbers, as the folders are spelt."""
_HUB: Final[dict[PromptForm, str]] = {"text": "Text_only", "sd": "SD", "typo": "TYPO", "sd-typo": "SD_TYPO"}
_IMAGES: Final = ("imgs", "data/imgs", "images", "")


def load(folder: Path, form: PromptForm) -> list[Sample]:
    """One form of the suite; scenarios are categories, and the forms of a question share a cluster.

    Args:
        folder: the copy, in one of the layouts.
        form: `text` has no picture, `sd` a generated one, `typo` the key phrase drawn, `sd-typo` both.

    Raises:
        UsageError: none of the layouts, or a table without pictures of this form.
    """
    for subfolder in ("processed_questions", "data/processed_questions"):
        files = sorted((folder / subfolder).glob("*.json"))
        if files:
            return [sample for file in files for sample in _from_json(file, folder, form)]
    for subfolder in ("data", ""):
        scenarios = [name for name in SCENARIOS if (folder / subfolder / name / f"{_HUB[form]}.parquet").is_file()]
        if scenarios:
            return [sample for name in scenarios for sample in _from_hub(folder / subfolder / name, form)]
    rows = read_table(folder, "questions")
    if form in ("typo", "sd-typo"):
        raise UsageError(
            f"expected processed_questions and imgs in {folder} for the form {form}, got questions alone; "
            "try the published pictures, or draw the form text with equipoise.data.typographic"
        )
    if form == "sd":
        rows = [row for row in rows if row.has("image_sd")]
    return collect(rows, lambda row: _from_table(row, folder, form))


def expected_of(scenario: str) -> Expected:
    """What should happen in a scenario, by the number it begins with."""
    number = re.match(r"\d\d", scenario)
    return "borderline" if number and number.group() in BORDERLINE else "refuse"


def _from_json(file: Path, folder: Path, form: PromptForm) -> list[Sample]:
    questions = read_json(file)
    if not isinstance(questions, dict):
        raise UsageError(f"expected questions by number in {file}, got a {type(questions).__name__}; try another copy")
    rows = [TableRow(value, file, number) for number, value in enumerate(questions.values(), 1)]
    if not all(isinstance(row.values, dict) for row in rows):
        raise UsageError(f"expected objects with {_COLUMN[form]!r} in {file}, got something else; try another copy")
    samples = []
    for key, row in zip(questions, rows, strict=True):
        sample = _sample(file.stem, key, row.text(_COLUMN[form]), form, intent=row.text("Question"))
        images: list[Any] = [] if form == "text" else [f"{file.stem}/{form.upper().replace('-', '_')}/{key}.jpg"]
        samples.append(attach(sample, folder, *images, within=_IMAGES))
    return samples


def _from_hub(folder: Path, form: PromptForm) -> list[Sample]:
    """The rows of one scenario; the plain question of the same id is the intent where a picture holds the request."""
    # Folders on the hub have no numbers; as published a scenario begins with one, by which `expected_of` goes.
    scenario = f"{SCENARIOS.index(folder.name) + 1:02}-{folder.name}"
    plain = folder / "Text_only.parquet"
    rows = read_rows(plain) if form != "text" and plain.is_file() else []
    intents = {row.text("id"): row.text("question") for row in rows}

    def to_sample(row: TableRow) -> Sample:
        number = row.text("id")
        sample = _sample(scenario, number, row.text("question"), form, intent=intents.get(number))
        return sample if form == "text" else attach(sample, folder, row.get("image"))

    return collect(read_rows(folder / f"{_HUB[form]}.parquet"), to_sample)


def _from_table(row: TableRow, folder: Path, form: PromptForm) -> Sample:
    sample = _sample(row.text("scenario"), row.text("id"), row.text("question"), form)
    return sample if form == "text" else attach(sample, folder, row.get("image_sd"))


def _sample(scenario: str, number: str, text: str, form: PromptForm, intent: str | None = None) -> Sample:
    name = f"{scenario}-{number}"
    return Sample(
        id=name,
        suite=f"mm-safetybench/{form}",
        text=text,
        expected=expected_of(scenario),
        category=scenario,
        cluster=name,
        intent=intent if intent and intent != text else None,
    )
