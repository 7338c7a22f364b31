"""Prompts of one class: ours, or a file's whose other rows are left out with a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from equipoise.cli.console import warn

if TYPE_CHECKING:
    from equipoise.steering.prompt_sets import OwnSet, PromptSet
    from equipoise.types import Expected

EXPECTED: Final[dict[OwnSet, Expected]] = {
    "harmful": "refuse",
    "contrast_harmful": "refuse",
    "harmless": "answer",
    "pseudo_harmful": "answer",
    "ordinary": "answer",
}
"""What should be done with the prompts of a class."""


def class_prompts(path: Path | None, own: OwnSet) -> PromptSet:
    """Prompts of a class, from a file or ours.

    Args:
        path: of the file; None takes ours.
        own: the class. Rows of a table whose column `expected` says another are left out, with a warning.

    Raises:
        UsageError: a file that cannot be read, or without prompts of the class.
    """
    from equipoise.steering.prompt_sets import own_prompts, read_prompts

    if path is None:
        return own_prompts(own)
    source = read_prompts(path, expected=EXPECTED[own])
    if source.left_out:
        warn(
            f"{source.left_out} of {source.left_out + len(source)} rows of {path} are left out: their column expected "
            f"does not say {EXPECTED[own]}"
        )
    return source
