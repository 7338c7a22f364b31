"""Options that all trainings share, and the names of training data in recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from equipoise.cli.options.expansion import FormerName
from equipoise.cli.options.param_types import usable_seed
from equipoise.errors import UsageError, os_reason

TESTBED: Final = "testbed"
"""The source of what is drawn from the embedded world, as recipes hold it."""

Folder = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for checkpoints and the model; resumes where it stopped."),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same training.", callback=usable_seed)]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
Every = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Rank = Annotated[
    int | None,
    typer.Option(min=1, metavar="RANK", help="Train low-rank adapters, merged in the end, instead of the weights."),
]

AdapterRank = Annotated[
    int, typer.Option("--lora", min=1, metavar="RANK", help="Rank of the adapter."), FormerName("--rank")
]


def file_source(file: Path) -> str:
    """Names a file of rows by a hash over its bytes.

    Raises:
        UsageError: it cannot be read.
    """
    import hashlib

    try:
        return f"rows:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    except OSError as error:
        raise UsageError(f"expected a readable file, got {file} ({os_reason(error)}); try another --rows") from error


FrozenBf16 = Annotated[
    bool,
    typer.Option(
        "--frozen-bf16",
        help="With --lora: keep the weights under the adapters in bfloat16, which is the fastest on a processor with "
        "instructions for it.",
    ),
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the decoder layers for the training: more steps a second after a minute or two. Needs a C++ "
        "compiler.",
    ),
]
AdapterOnly = Annotated[
    bool,
    typer.Option(
        "--adapter-only",
        help="With --lora: write the adapter alone. It is read over the base, whose weights a detector and a "
        "detoxifier then share in memory.",
    ),
]
