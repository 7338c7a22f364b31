"""A user's file of prompts and replies: read row by row, so that its length does not matter, after one quick look.

What is wrong with the whole file (missing, not UTF-8, no rows, an id twice) is one error before anything is judged;
what is wrong with one row is that row's problem and leaves the others alone.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO, TypeVar, get_args

from equipoise.data.tables import LARGEST_CELL
from equipoise.errors import PictureError, UsageError, os_reason
from equipoise.judges.llm_interface import drop_lone_surrogates
from equipoise.types import Exchange, FinishReason, Message, Prompt, Sample, Wire

FIRST: Final = 20
"""A file none of whose first rows is a JSON object is no file of rows at all."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class JudgeRow:
    """One row of a file."""

    line: int
    """Where it stands, from 1 on."""
    id: str | int | None
    """Its id; None where it has none."""
    exchange: Exchange | None
    """What is to be judged; None where the row is unusable."""
    problem: str | None = None
    """Why it is unusable."""
    notes: tuple[str, ...] = ()
    """What is wrong with it without making it unusable, such as a missing picture."""
    values: dict[str, Any] = field(default_factory=dict)
    """All that it holds."""
    response: str = ""
    """The reply as it stands in the file; judges get it without half surrogate pairs."""


def read_rows(path: Path, *, pictures: bool = False) -> Iterator[JudgeRow]:
    """The rows of a JSONL file, or of a CSV file with a header, in order.

    Args:
        path: rows with `id`, `prompt` and `response`; optionally `images` (paths relative to the file), `model`,
            `finish`, `wire`, `system`, `intent`, `reference` (one answer or several) and `harmful_reference`.
        pictures: whether pictures are opened.

    Raises:
        UsageError: the file is missing, not UTF-8, holds no rows, or one id twice.
    """
    check(path)
    for line, values in _objects(path):
        yield _row(path, line, values, pictures)


def check(path: Path) -> None:
    """Look through a file once for what makes all of it unusable.

    Raises:
        UsageError: see `read_rows`.
    """
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing there"
        raise UsageError(
            f"expected a file of rows, got {what} at {path}; try a .jsonl file with id, prompt and response"
        )
    # Ids only, not rows: the first pass over a file of any length keeps a few bytes for each line.
    lines: dict[str, int] = {}
    good = total = 0
    try:
        for line, values in _objects(path):
            total += 1
            if isinstance(values, str):
                if good == 0 and total >= FIRST:
                    break
                continue
            good += 1
            name = values.get("id")
            if not isinstance(name, str | int):
                continue
            if str(name) in lines:
                raise UsageError(
                    f"expected every id once, got {str(name)[:80]!r} in lines {lines[str(name)]} and {line} of {path}; "
                    "try numbering the rows"
                )
            lines[str(name)] = line
    except UnicodeDecodeError as error:
        raise UsageError(
            f"expected UTF-8, got byte {error.object[error.start]:#04x} in {path}; try saving it as UTF-8"
        ) from error
    except csv.Error as error:
        raise UsageError(f"expected a CSV file, got '{error}' in {path}; try saving it again") from error
    except OSError as error:
        raise UsageError(f"expected a file that can be read, got {path}: {os_reason(error)}; try another") from error
    if good == 0:
        what = "an empty file" if total == 0 else "no JSON object in any of the first lines"
        raise UsageError(
            f"expected one JSON object a line, got {what} of {path}; "
            'try {"id": "1", "prompt": "...", "response": "..."} on each line'
        )


def batches(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, in order."""
    while batch := list(islice(items, size)):
        yield batch


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number and object of every row that is not blank; a sentence in place of what is no object."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield from _csv_objects(file)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                yield number, "is not JSON"
                continue
            yield number, value if isinstance(value, dict) else "is no JSON object"


def _csv_objects(file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    # The limit is one of the whole process; a reply may be longer than what it is by default.
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        reader = csv.DictReader(file)
        for values in reader:
            extra = values.pop(None, None)
            filled = {name: value for name, value in values.items() if value not in (None, "")}
            yield reader.line_num, "has more cells than the header" if extra else filled
    finally:
        csv.field_size_limit(before)


def _row(path: Path, line: int, values: dict[str, Any] | str, pictures: bool) -> JudgeRow:
    if isinstance(values, str):
        return JudgeRow(line, None, None, f"line {line} {values}")
    name = values.get("id")
    identifier = name if isinstance(name, str | int) and not isinstance(name, bool) else None
    problem = _problem(values)
    if problem is not None:
        return JudgeRow(line, identifier, None, f"line {line} {problem}", values=values)
    reply = values["response"]
    values = {name: drop_lone_surrogates(value) if isinstance(value, str) else value for name, value in values.items()}
    images, notes = _pictures(path, values.get("images") or [], pictures)
    prompt = Prompt((Message("user", values["prompt"], images),), values.get("system"))
    reference = values.get("reference") or ()
    sample = Sample(
        id=str(name),
        suite=path.stem,
        text=values["prompt"],
        expected="answer",
        reference=(reference,) if isinstance(reference, str) else tuple(reference),
        harmful_reference=values.get("harmful_reference"),
        intent=values.get("intent"),
    )
    exchange = Exchange(
        prompt,
        values["response"],
        values.get("finish") or "stop",
        values.get("model") or "",
        wire=values.get("wire") or "text",
        sample=sample,
    )
    return JudgeRow(line, identifier, exchange, notes=notes, values=values, response=reply)


def _problem(values: dict[str, Any]) -> str | None:
    """Why a row cannot be judged."""
    for name in ("id", "prompt", "response"):
        if name not in values or values[name] is None:
            return f"has no {name}"
    if isinstance(values["id"], bool) or not isinstance(values["id"], str | int):
        return "has an id that is neither text nor a whole number"
    for name in ("prompt", "response", "system", "intent", "model", "harmful_reference"):
        if not isinstance(values.get(name), str | None):
            return f"has a {name} that is no text"
    for name in ("images", "reference"):
        several = values.get(name)
        if several is not None and not (name == "reference" and isinstance(several, str)) and not _texts(several):
            return f"has {name} that are no list of texts"
    for name, choices in (("finish", get_args(FinishReason)), ("wire", get_args(Wire))):
        if values.get(name) is not None and values[name] not in choices:
            return f"has a {name} that is none of {', '.join(choices)}"
    return None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _pictures(path: Path, names: Sequence[str], wanted: bool) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Pictures, where they are wanted, and what is wrong with them."""
    images, notes = [], []
    for name in names:
        file = path.parent / name
        if not file.is_file():
            notes.append(f"the picture {name} is missing; the reply was judged without it")
        elif wanted:
            from equipoise.media.decode import open_picture

            try:
                images.append(open_picture(file))
            except (PictureError, UsageError) as error:
                notes.append(f"the picture {name} was left out: {error}")
    return tuple(images), tuple(notes)
