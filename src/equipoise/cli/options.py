"""Options that several verbs share, so that they mean the same everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from equipoise.countermeasures.catalogue import CATALOGUE
from equipoise.errors import UsageError

MACHINE = "Machine and memory"
ATTACK = "Attack"
QUESTIONS = "Questions"


def usable_seed(seed: int) -> int:
    """A seed that every generator takes.

    Raises:
        UsageError: more than 63 bits.
    """
    if abs(seed) >= 2**63:
        raise UsageError(f"expected a seed below 2^63, got {seed}; try 0")
    return seed


class Dtype(StrEnum):
    """Number formats for weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantize(StrEnum):
    """Weights packed into fewer bits."""

    four = "4bit"
    eight = "8bit"


class Norm(StrEnum):
    """How the size of a change is measured."""

    linf = "linf"
    l2 = "l2"


class Shadow(StrEnum):
    """Which questions the attack optimises on."""

    general = "general"
    similar = "similar"
    exact = "exact"


Images = Annotated[
    list[Path], typer.Argument(help="Pictures, or folders of pictures (not their subfolders).", show_default=False)
]
Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        help="Target: testbed/NAME, a folder, or ORG/NAME or ORG/NAME@REVISION of the model hub. May be repeated.",
        show_default=False,
    ),
]
Bystanders = Annotated[
    list[str] | None,
    typer.Option("--bystander", "-b", help="A model that should go on answering. May be repeated."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", show_default=False)]
Epsilon = Annotated[str, typer.Option(help="Largest change, of values in [0, 1].", rich_help_panel=ATTACK)]
Seed = Annotated[int, typer.Option(help="Same seed, same bytes.", callback=usable_seed, rich_help_panel=ATTACK)]
Steps = Annotated[int, typer.Option(min=1, help="Steps at most; easy pictures stop early.", rich_help_panel=ATTACK)]
MaxSeconds = Annotated[float | None, typer.Option(min=0.0, help="Seconds a picture may take.", rich_help_panel=ATTACK)]
Question = Annotated[
    list[str] | None,
    typer.Option(
        "--question", "-q", help="A question that people may ask. May be repeated.", rich_help_panel=QUESTIONS
    ),
]
QuestionFile = Annotated[
    Path | None, typer.Option("--questions", help="A file of such questions, one a line.", rich_help_panel=QUESTIONS)
]
Ask = Annotated[
    list[str] | None,
    typer.Option(
        "--ask",
        help="A held-out question to measure with, instead of the default ones. May be repeated.",
        rich_help_panel=QUESTIONS,
    ),
]
HeldOutFile = Annotated[
    Path | None, typer.Option("--heldout", help="A file of held-out questions.", rich_help_panel=QUESTIONS)
]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, help="Length of a reply, in tokens, at most.", rich_help_panel=MACHINE)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of another recipe in the folder.")]
Defend = Annotated[
    list[str] | None,
    typer.Option(
        "--defend",
        help="A countermeasure around the model, NAME or NAME:key=value,...; several make a chain, in the order in "
        f"which a picture meets them. Names: {', '.join(CATALOGUE)}; docs/cli.md has their settings.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N; the GPU where there is one by default.", rich_help_panel=MACHINE),
]
Type = Annotated[
    Dtype | None,
    typer.Option("--dtype", help="Number format; by default what suits the device.", rich_help_panel=MACHINE),
]
Packed = Annotated[
    Quantize | None, typer.Option("--quantize", help="Pack the weights (needs bitsandbytes).", rich_help_panel=MACHINE)
]
MicroBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Questions at a time: less memory, same result.", rich_help_panel=MACHINE),
]
Checkpointing = Annotated[
    bool,
    typer.Option("--gradient-checkpointing", help="Less memory for more time, same result.", rich_help_panel=MACHINE),
]
