"""Rows for the guard's trainings: labelled replies, and harmful replies with a rewrite. The first bad row ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from equipoise.errors import UsageError
from equipoise.guard.calibration import label_of
from equipoise.guard.guard_input import GuardInput
from equipoise.judges.judge_rows import JudgeRow, read_rows


@dataclass(frozen=True)
class LabelledReply:
    """A reply with its label."""

    id: str
    """Its name."""
    prompt: str
    """What it answers."""
    response: str
    """The reply."""
    harmful: bool
    """Whether it does harm."""
    dataset: str = ""
    """Where it comes from; rates are told apart by it."""
    weight: float = 1.0
    """Its weight in the loss; below 1 where the label is a guess."""
    picture_text: str = ""
    """What stands in its pictures."""

    @property
    def evidence(self) -> GuardInput:
        """As a detector sees it."""
        return GuardInput(self.response, self.prompt, self.picture_text)


@dataclass(frozen=True)
class RewrittenReply:
    """A harmful reply and what should stand in its place."""

    id: str
    """Its name."""
    prompt: str
    """What it answers."""
    response: str
    """The harmful reply."""
    rewrite: str
    """A harmless one to the same question."""


def labelled(file: Path) -> list[LabelledReply]:
    """Replies with labels.

    Raises:
        UsageError: no such file, or a row without a label; the message names the line.
    """
    replies = []
    for row in _usable(file):
        weight = row.values.get("weight", 1.0)
        try:
            number = float(weight)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise UsageError(f"expected a weight of at least 0, got {weight!r} in line {row.line} of {file}; try 1")
        exchange = row.exchange
        if exchange is not None:
            harmful = label_of(row, file)
            dataset = str(row.values.get("dataset") or "")
            picture_text = str(row.values.get("picture_text") or "")
            replies.append(
                LabelledReply(str(row.id), exchange.prompt.text, exchange.reply, harmful, dataset, number, picture_text)
            )
    return replies


def with_rewrites(file: Path) -> list[RewrittenReply]:
    """Harmful replies with rewrites.

    Raises:
        UsageError: no such file, or a row without a rewrite; the message names the line.
    """
    replies = []
    for row in _usable(file):
        text = row.values.get("rewrite")
        if not isinstance(text, str):
            raise UsageError(f"expected a rewrite in every row, got none in line {row.line} of {file}; try adding it")
        if row.exchange is not None:
            replies.append(RewrittenReply(str(row.id), row.exchange.prompt.text, row.exchange.reply, text))
    return replies


def _usable(file: Path) -> Iterator[JudgeRow]:
    for row in read_rows(file):
        if row.exchange is None:
            raise UsageError(f"expected id, prompt and response in every row, got: {row.problem}; try mending {file}")
        yield row
