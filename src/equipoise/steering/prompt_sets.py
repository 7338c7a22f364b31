"""Prompts that directions are found and measured with: files of the user, or ours."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from equipoise.data.suites.generic import label_of
from equipoise.data.tables import TableRow, is_table, read_rows
from equipoise.errors import UsageError, os_reason
from equipoise.media.decode import open_picture
from equipoise.types import Expected, Prompt

OwnSet = Literal["harmful", "harmless", "pseudo_harmful", "contrast_harmful", "ordinary"]
"""Ours, written for this purpose and taken from no benchmark. `pseudo_harmful` only look harmful; `contrast_harmful`
are harmful in the same words; `ordinary` are everyday and maths questions that a gate must leave alone."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts under one name, with the hash of where they come from."""

    name: str
    """What it is called in results: `harmful`, a file's name."""
    prompts: tuple[Prompt, ...]
    """In order."""
    sha256: str
    """Of the file."""
    left_out: int = 0
    """Rows of the file whose label is another than the wanted one."""

    def __len__(self) -> int:
        return len(self.prompts)

    def split(self, shares: Sequence[float], seed: int) -> list[PromptSet]:
        """Disjoint parts in the given shares of the whole; the order is shuffled with the seed.

        Args:
            shares: of each part; their sum is at most 1.
            seed: of the shuffle.
        """
        order = list(range(len(self.prompts)))
        random.Random(f"{seed}:{self.sha256}").shuffle(order)
        parts, start = [], 0
        for share in shares:
            stop = start + round(share * len(order))
            parts.append(replace(self, prompts=tuple(self.prompts[i] for i in order[start:stop])))
            start = stop
        return parts

    def first(self, count: int | None) -> PromptSet:
        """The first prompts only; all where `count` is None."""
        return replace(self, prompts=self.prompts[:count])


def own_prompts(name: OwnSet) -> PromptSet:
    """One of our own sets."""
    content = files("equipoise.steering").joinpath(f"prompts/{name}.txt").read_bytes()
    return _from_lines(name, content)


def read_prompts(path: str | Path, *, expected: Expected | None = None) -> PromptSet:
    """Prompts of a file: one a line, or a table with a column `prompt` or `text` and perhaps `picture`.

    Pictures are paths, relative to the file; several are separated by `|`.

    Args:
        path: of the file.
        expected: `answer` or `refuse` leaves out the rows of a table whose column `expected` says another; None takes
            all. Rows without a label are always taken.

    Raises:
        UsageError: no such file, no prompts, an empty one, or none of the wanted label.
        PictureError: a picture that cannot be read.
    """
    file = Path(path)
    if not is_table(file):
        try:
            return _from_lines(file.stem, file.read_bytes())
        except OSError as error:
            raise UsageError(
                f"expected a text file of prompts, one a line, got {file} ({os_reason(error)}); "
                "try a .txt, .csv or .jsonl file"
            ) from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise UsageError(
                f"expected UTF-8 text, got byte 0x{error.object[error.start]:02x} in {file}, line {line}; "
                "try to save it as UTF-8"
            ) from error
    prompts = []
    rows = read_rows(file)
    wanted = [row for row in rows if expected is None or _label(row) in (None, expected)]
    if rows and not wanted:
        raise UsageError(
            f"expected rows with {expected} in the column expected of {file}, got {len(rows)} with other labels; "
            "try another file"
        )
    for row in wanted:
        text = row.text("prompt", "text", "question", "goal")
        names = row.text("picture", "image").split("|") if row.has("picture", "image") else []
        if not text.strip():
            raise UsageError(f"expected a prompt, got empty text in {row.where}; try removing the row")
        prompts.append(Prompt.ask(text, *(open_picture(file.parent / name.strip()) for name in names)))
    if not prompts:
        raise UsageError(f"expected prompts in {file}, got none; try one prompt a row")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return PromptSet(file.stem, tuple(prompts), digest, left_out=len(rows) - len(wanted))


def _label(row: TableRow) -> Expected | None:
    """What the column `expected` of a row says; None where it holds no label."""
    value = row.get("expected")
    return label_of(value) if isinstance(value, str) else None


def _from_lines(name: str, content: bytes) -> PromptSet:
    # `splitlines` of a text also parts it at characters such as U+2028; that of bytes knows the ends of lines alone.
    lines = [line.decode().strip() for line in content.decode("utf-8-sig").encode().splitlines()]
    prompts = tuple(Prompt.ask(line) for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise UsageError(f"expected prompts in {name}, got none; try one prompt a line")
    return PromptSet(name, prompts, hashlib.sha256(content).hexdigest())
