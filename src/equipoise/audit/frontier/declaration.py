"""What a user says a mitigation was tuned on, to hold against the test split."""

from __future__ import annotations

from pathlib import Path

from equipoise.types import Sample


def read_declared(path: Path) -> tuple[Sample, ...]:
    """The prompts of a file, as samples.

    Args:
        path: one prompt a line, or a table with a column `prompt` or `text`.

    Raises:
        UsageError: no such file, or no prompts in it.
    """
    from equipoise.steering.prompt_sets import read_prompts

    return tuple(
        Sample(str(number), f"declared:{path.name}", prompt.text, "borderline")
        for number, prompt in enumerate(read_prompts(path).prompts)
    )
