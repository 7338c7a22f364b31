"""Examples for adversarial training: pictures with questions and the replies to keep."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from equipoise.errors import PictureError, UsageError
from equipoise.media.decode import open_picture
from equipoise.testbed.training_data import sample_example


@dataclass(frozen=True)
class AdversarialExample:
    """One picture with questions and the replies to keep."""

    picture: Image.Image
    """8-bit RGB."""
    turns: tuple[tuple[str, str], ...]
    """Question and reply; refusals where the model should refuse."""


SampleExample = Callable[[np.random.Generator], AdversarialExample]
"""Returns an example to learn from; the generator is the only source of randomness."""


def from_testbed(rng: np.random.Generator) -> AdversarialExample:
    """A picture of the embedded world with questions in the wordings that training may see."""
    example = sample_example(rng)
    return AdversarialExample(example.picture, example.turns)


@dataclass(frozen=True)
class ExampleFile:
    """The examples of a file; a call returns one of them."""

    path: Path
    """Of the file."""
    examples: tuple[tuple[Path, tuple[tuple[str, str], ...]], ...]
    """Path of the picture, and turns, of each example."""

    def __call__(self, rng: np.random.Generator) -> AdversarialExample:
        """One at random, with its picture read."""
        picture, turns = self.examples[int(rng.integers(len(self.examples)))]
        return AdversarialExample(open_picture(picture), turns)


def read_rows(path: Path) -> ExampleFile:
    """JSON lines with `image` (a path beside the file), `question` and `answer`; lines of one picture belong together.

    Raises:
        UsageError: a line that is not that, or none at all.
        PictureError: a picture that is not there, or cannot be read.
    """
    turns_of: dict[Path, list[tuple[str, str]]] = {}
    try:
        # Not splitlines(), which also splits at characters that JSON may hold inside its text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"expected a readable file of JSON lines, got {path} ({error}); try another --rows") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        image, question, answer = _row(line, f"{path}:{number}")
        file = path.parent / image
        if file not in turns_of:
            try:
                # Better now than after hours of training.
                open_picture(file)
            except PictureError as error:
                raise PictureError(f"{error} ({path}:{number})") from None
        turns_of.setdefault(file, []).append((question, answer))
    if not turns_of:
        raise UsageError(f"expected at least one line in {path}, got none; try image, question and answer in each")
    return ExampleFile(path, tuple((file, tuple(turns)) for file, turns in turns_of.items()))


def _row(line: str, location: str) -> Sequence[str]:
    try:
        row = json.loads(line)
        values = [row[key] for key in ("image", "question", "answer")]
        # Half a surrogate pair has no bytes, and no tokenizer takes it.
        usable = all(value.strip() and value.encode() for value in values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        usable = False
    if not usable:
        raise UsageError(
            f"expected image, question and answer as text at {location}, got {line[:60]!r}; try one JSON a line"
        )
    return values
