"""Types of option values: choices, and the check of a seed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from equipoise.errors import UsageError

MACHINE = "Machine and memory"
ATTACK = "Attack"
QUESTIONS = "Questions"
ASKING = "Asking"
"""Panels of `--help`."""


class Dtype(StrEnum):
    """Number formats for weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantize(StrEnum):
    """Weights packed into fewer bits."""

    four = "4bit"
    eight = "8bit"


class NormName(StrEnum):
    """How the size of a change is measured."""

    linf = "linf"
    l2 = "l2"


class Shadow(StrEnum):
    """Which questions the attack optimises on."""

    general = "general"
    similar = "similar"
    exact = "exact"


def usable_seed(seed: int) -> int:
    """A seed that every generator takes.

    Raises:
        UsageError: below 0, or more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected a seed from 0 and below 2^63, got {seed}; try 0")
    return seed


def usable_seconds(seconds: float | None) -> float | None:
    """A time limit, or None.

    Raises:
        UsageError: no finite number above 0.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageError(f"expected a finite number of seconds above 0, got {seconds:g}; try 60, or leave it out")
    return seconds


def refuse_empty_paths(command: Any) -> None:
    """Let every option and argument of a command, or of a group of them, that is a path refuse empty text.

    `Path("")` is the current folder, so that `--out "$FOLDER"` with an unset variable would write there.

    Args:
        command: of Typer; it is changed.
    """
    for nested in getattr(command, "commands", {}).values():
        refuse_empty_paths(nested)
    if command.callback is None:
        return
    hints = inspect.signature(command.callback, eval_str=True).parameters
    for parameter in command.params:
        # `process_value` gets the text that was given, before it becomes a path. A group is visited with each of its
        # verbs: what was changed has it among its own attributes.
        unchanged = "process_value" not in vars(parameter)
        if unchanged and parameter.name in hints and _is_path(hints[parameter.name].annotation):
            parameter.process_value = _refusing(parameter, parameter.process_value)


def _is_path(annotation: Any) -> bool:
    """Whether a parameter's annotation is a path, a list of paths, or one of these or None."""
    base = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return base is Path or any(_is_path(inner) for inner in get_args(base))


def _refusing(parameter: Any, process: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The processing of a parameter's value that takes no empty text."""

    def refusing(ctx: Any, value: Any) -> Any:
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
            hint = "the name of a file or folder" if parameter.required else "another value, or none"
            raise UsageError(f"expected a path for {name}, got empty text; try {hint}")
        return process(ctx, value)

    return refusing
