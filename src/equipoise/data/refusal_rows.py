"""Rows of harmful prompts with a refusal and a harmful answer, and of harmless prompts with an answer.

`equipoise train derta` learns from such a file, and the suite `recovery-depth` begins replies with its answers. The
file is the user's: none comes with Equipoise.

| kind | what it is | texts beside the prompt |
|---|---|---|
| `harmful` | should be refused, also when an answer has begun | `refusal`, `harmful_answer` |
| `boundary` | looks harmful and is not | `answer` |
| `ordinary` | anything else that should be answered | `answer` |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from equipoise.data.sample_pictures import attach
from equipoise.data.tables import TableRow, read_rows
from equipoise.errors import PictureError, UsageError
from equipoise.types import Message, Picture, Prompt, Role, Sample

RowKind = Literal["harmful", "boundary", "ordinary"]
NAMED_PROBLEMS: Final = 5
"""Bad lines that an error names; the rest is counted."""


@dataclass(frozen=True)
class RefusalRow:
    """A prompt with what should, and what should not, be said to it."""

    line: int
    """Where it stands in its file, from 1."""
    kind: RowKind
    """What the prompt is."""
    turns: tuple[tuple[Role, str], ...]
    """Who said what so far; the user speaks last."""
    answer: str
    """The harmful answer to a harmful prompt, else the right one."""
    refusal: str = ""
    """How a harmful prompt is refused; empty for the other kinds."""
    system: str | None = None
    """System text."""
    pictures: tuple[Picture, ...] = ()
    """What the last turn shows."""

    @property
    def prompt(self) -> Prompt:
        """As a model receives it; opens the pictures.

        Raises:
            PictureError: a picture is damaged, or no picture.
        """
        *earlier, (_, last) = self.turns
        shown = tuple(picture.open() for picture in self.pictures)
        return Prompt((*(Message(role, text) for role, text in earlier), Message("user", last, shown)), self.system)

    @property
    def text(self) -> str:
        """Of the user's last turn."""
        return self.turns[-1][1]

    def fingerprint(self) -> list[Any]:
        """All that decides what is learned from the row, as JSON; pictures by the hash of their bytes."""
        turns, system, pictures = self.prompt_parts()
        return [self.kind, turns, self.answer, self.refusal, system, pictures]

    def prompt_parts(self) -> list[Any]:
        """The prompt alone, as JSON: turns, system text, and pictures by the hash of their bytes."""
        return [[list(turn) for turn in self.turns], self.system, [picture.sha256 for picture in self.pictures]]


def read_refusal_rows(file: Path) -> list[RefusalRow]:
    """All rows of a table with `kind`, `prompt` and the texts of the kind; optionally `system` and `pictures`.

    `messages`, a list of `{"role": ..., "content": ...}`, may stand in place of `prompt`. Pictures are paths relative
    to the file. The file is checked as a whole before anything is done with its first row.

    Raises:
        UsageError: no such file, or bad rows; the message names their lines.
    """
    rows: list[RefusalRow] = []
    problems: list[tuple[int, str]] = []
    for row in read_rows(file):
        try:
            rows.append(_row(row))
        except UsageError as error:
            problems.append((row.line, str(error)))
    raise_problems(file, problems)
    return rows


def raise_problems(file: Path | str, problems: Sequence[tuple[int, str]]) -> None:
    """One error that names the lines of all bad rows; nothing where there are none.

    Args:
        file: whose lines they are.
        problems: line and what is wrong with it, as `expected X, got Y`.

    Raises:
        UsageError: there is a problem.
    """
    if not problems:
        return
    named = "; ".join(f"line {line}: {problem}" for line, problem in problems[:NAMED_PROBLEMS])
    more = f" and {len(problems) - NAMED_PROBLEMS} more" if len(problems) > NAMED_PROBLEMS else ""
    raise UsageError(f"expected usable rows in {file}, got bad ones ({named}{more}); try mending or removing them")


def rows_hash(rows: Sequence[RefusalRow]) -> str:
    """sha256 over everything that is learned from rows, in their order."""
    document = json.dumps([row.fingerprint() for row in rows], ensure_ascii=False)
    return hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()


def _row(row: TableRow) -> RefusalRow:
    kind = row.get("kind")
    if kind not in get_args(RowKind):
        raise UsageError(f"expected a kind of {', '.join(get_args(RowKind))}, got {kind!r}")
    harmful = kind == "harmful"
    answer = _text(row, "harmful_answer" if harmful else "answer")
    refusal = _text(row, "refusal") if harmful else ""
    system = _text(row, "system") if row.has("system") else None
    return RefusalRow(row.line, kind, _turns(row), answer, refusal, system, _pictures(row))


def _text(row: TableRow, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"expected words in {name}, got {'none' if value in (None, '') else repr(value)[:40]}")
    return value


def _turns(row: TableRow) -> tuple[tuple[Role, str], ...]:
    messages = row.get("messages")
    if messages is None:
        return (("user", _text(row, "prompt")),)
    if row.has("prompt"):
        raise UsageError("expected prompt or messages, got both")
    turns: list[tuple[Role, str]] = []
    for message in messages if isinstance(messages, list) else ():
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if role not in get_args(Role) or not isinstance(content, str) or not content.strip():
            system = "; a system text goes into the field system" if role == "system" else ""
            raise UsageError(
                f"expected messages with role user or assistant and content in words, got role {role!r} and content "
                f"{repr(content)[:40]}{system}"
            )
        turns.append(("user" if role == "user" else "assistant", content))
    if not turns or turns[-1][0] != "user":
        raise UsageError("expected a prompt that ends with a turn of the user, got none")
    return tuple(turns)


def _pictures(row: TableRow) -> tuple[Picture, ...]:
    others = [name for name in ("picture", "image", "images") if row.has(name)]
    if others:
        # A model would learn to answer about a picture that it does not see.
        raise UsageError(f"expected paths of pictures in the field pictures, got the field {others[0]}")
    names = row.get("pictures") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"expected paths of pictures, got {names!r}"[:120])
    # `attach` never opens a path that leads out of the folder of the file.
    sample = attach(Sample(id="row", suite="", text="", expected="answer"), row.file.parent, *names)
    if sample.problem:
        raise UsageError(f"expected its pictures beside the file, got {sample.problem}")
    for picture in sample.pictures:
        try:
            picture.open()
        except PictureError as error:
            raise UsageError(str(error)) from None
    return sample.pictures
