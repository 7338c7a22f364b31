"""The folder of a generated suite: what an audit reads, parts for selection and for test, and the origin of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.data.splits import SplitRule, split
from equipoise.errors import UsageError
from equipoise.files import read_json_lines, write_json, write_whole
from equipoise.generation.generated_prompt import GeneratedPrompt
from equipoise.generation.review_sheet import write_sheet
from equipoise.generation.transfer import TransferRow
from equipoise.types import Sample

RULE: Final = SplitRule(by="cluster", development=0.0, test=0.5)
"""All prompts of one seed stay together; half of the seeds are for test."""
ATTEMPTS: Final = "attempts.jsonl"
"""Every attempt with its trace, accepted or not."""


def prompt_id(prompt: GeneratedPrompt) -> str:
    """The id of a row."""
    return f"{prompt.method}-{prompt.number:05d}"


def suite_samples(prompts: Sequence[GeneratedPrompt]) -> list[Sample]:
    """Accepted prompts as samples: harmless ones should be answered, controversial ones are borderline."""
    return [
        Sample(
            id=prompt_id(prompt),
            suite="generated",
            text=prompt.text,
            expected="answer" if prompt.label == "harmless" else "borderline",
            category=prompt.seed.topic,
            cluster=prompt.seed.text,
        )
        for prompt in prompts
    ]


def write_suite(
    folder: Path,
    attempts: Sequence[GeneratedPrompt],
    prompts: Sequence[GeneratedPrompt],
    recipe: Mapping[str, Any],
    *,
    summary: Mapping[str, Any] | None = None,
    transfer: Sequence[TransferRow] = (),
) -> Path:
    """Write a suite.

    `samples.jsonl` holds all rows with a column `part`; `selection.jsonl` and `test.jsonl` hold those to train or
    select on and those to report on. No seed has prompts in both.

    Args:
        folder: where.
        attempts: everything that was tried.
        prompts: the chosen among the accepted.
        recipe: all that decides them.
        summary: counts and times of the run.
        transfer: refusals of held-out models.

    Returns:
        The table of samples.

    Raises:
        UsageError: no prompts.
        OutputError: the folder cannot be written.
    """
    if not prompts:
        raise UsageError(
            "expected accepted prompts for a suite, got none; try more --attempts, another --method, or a victim "
            "that refuses more"
        )
    part_of: dict[str, str] = {}
    parts = split(suite_samples(prompts), rule=RULE)
    for name in ("selection", "test"):
        part_of |= {sample.id: name for sample in getattr(parts, name)}
    rows = [_row(prompt, part_of[prompt_id(prompt)]) for prompt in prompts]
    table = folder / "samples.jsonl"
    _write_lines(table, rows)
    for name in ("selection", "test"):
        _write_lines(folder / f"{name}.jsonl", [row for row in rows if row["part"] == name])
    _write_lines(folder / ATTEMPTS, [prompt.to_dict() for prompt in attempts])
    write_sheet([(prompt_id(prompt), prompt) for prompt in prompts], folder)
    document = {"recipe": dict(recipe), "transfer": [row.to_dict() for row in transfer]}
    write_json(folder / "generation.json", document | dict(summary or {}))
    return table


def _row(prompt: GeneratedPrompt, part: str) -> dict[str, Any]:
    return {
        "id": prompt_id(prompt),
        "prompt": prompt.text,
        "expected": "answer" if prompt.label == "harmless" else "borderline",
        "category": prompt.seed.topic,
        "cluster": prompt.seed.text,
        **({"image": prompt.picture} if prompt.picture else {}),
        "source": f"equipoise generate, {prompt.method}",
        "part": part,
        "label": prompt.label,
        "method": prompt.method,
        "seed_prompt": prompt.seed.text,
        "scores": dict(prompt.scores),
        "reply": prompt.reply,
        "judges": {verdict.judge: verdict.label for verdict in prompt.verdicts},
        "words": [[word, round(weight, 4)] for word, weight in prompt.words],
        **({"picture_kind": prompt.picture_kind} if prompt.picture else {}),
    }


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_suite(folder: Path) -> list[GeneratedPrompt]:
    """The prompts of a suite that `write_suite` wrote, with all that is known of them.

    Raises:
        UsageError: no generated suite there.
    """
    try:
        chosen = {row["id"] for row in read_json_lines(folder / "samples.jsonl")}
        attempts = read_attempts(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"expected a generated suite in {folder}, got {error}; try the --out of `equipoise generate pseudo-harmful`"
        ) from error
    return [prompt for prompt in attempts if prompt_id(prompt) in chosen]


def read_attempts(folder: Path) -> list[GeneratedPrompt]:
    """Every attempt of a suite that `write_suite` wrote, accepted or not.

    Raises:
        OSError, ValueError, KeyError, TypeError: no such table there.
    """
    return [GeneratedPrompt.from_dict(document) for document in read_json_lines(folder / ATTEMPTS)]
