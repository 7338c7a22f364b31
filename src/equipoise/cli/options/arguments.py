"""Single options and arguments that mean the same in every verb: pictures, models, output, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.options.param_types import MACHINE
from equipoise.countermeasures.catalogue import CATALOGUE

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
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="testbed/NAME, reference/NAME, ORG/NAME or ORG/NAME@REVISION of the model hub, a folder or a .gguf file; "
        "+ADAPTER after it merges a folder of peft.",
        show_default=False,
    ),
]
Bystanders = Annotated[
    list[str] | None,
    typer.Option("--bystander", "-b", help="A model that should go on answering. May be repeated."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of another recipe in the folder.")]
MaxNewTokens = Annotated[
    int, typer.Option(min=1, help="Length of a reply, in tokens, at most.", rich_help_panel=MACHINE)
]
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
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line on stdout, in order.")]
FalsePositiveRate = Annotated[
    float,
    typer.Option(
        "--fpr",
        help="Share of harmless cases that may be flagged (the false-positive rate), bounded with the stated "
        "confidence.",
    ),
]
