"""`equipoise train`: denoisers for purification, and models that withstand refusal perturbations."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli import options as o
from equipoise.cli.console import quiet, show
from equipoise.cli.loading import Machine
from equipoise.errors import ModelError, PictureError, UsageError

if TYPE_CHECKING:
    from equipoise.models.hf import HuggingFaceModel

TESTBED = "testbed"
"""The source of what is drawn from the embedded world, as recipes hold it."""

train = typer.Typer(
    no_args_is_help=True,
    help="Train defences: denoisers for purification, models that withstand refusal perturbations.",
)


class MixedPrecision(StrEnum):
    """Number formats that a forward pass may use beside that of the weights."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"


Folder = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for checkpoints and the model; resumes where it stopped."),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same training.", callback=o.usable_seed)]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
Every = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Start = Annotated[
    str,
    typer.Argument(
        help="What to start from: testbed/NAME, a folder, or ORG/NAME or ORG/NAME@REVISION of the model hub.",
        show_default=False,
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option(
        help="One JSON object a line with image (a path beside the file), question and answer, some of them refusals; "
        "by default the embedded world."
    ),
]
InnerSteps = Annotated[int, typer.Option(min=1, help="Gradient steps of the attack inside.", rich_help_panel=o.ATTACK)]
Attacked = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the pictures that are attacked.", rich_help_panel=o.ATTACK)
]
Untargeted = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the attacks that only make the right reply less likely, instead of a refusal likelier.",
        rich_help_panel=o.ATTACK,
    ),
]
AttackedSide = Annotated[
    int | None, typer.Option(min=1, help="Resize pictures to this square; by default they stay as they are.")
]
Parts = Annotated[str, typer.Option(help="Which weights learn: vision, projector, language, separated by commas.")]
Rank = Annotated[
    int | None,
    typer.Option(min=1, metavar="RANK", help="Train low-rank adapters, merged in the end, instead of the weights."),
]
TrainedType = Annotated[
    o.Dtype | None,
    typer.Option(
        "--dtype",
        help="Number format of the weights; float32 by default, with --lora what suits the device.",
        rich_help_panel=o.MACHINE,
    ),
]
Mixed = Annotated[
    MixedPrecision,
    typer.Option(help="Number format of the forward pass; fp16 needs a GPU.", rich_help_panel=o.MACHINE),
]


@train.command()
def diffusion(
    out: Folder,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures (not its subfolders); by default scenes of the embedded world."),
    ] = None,
    steps: Steps = 2600,
    side: Annotated[int, typer.Option(min=8, help="Pictures are resized to this square; a multiple of 8.")] = 96,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in a step.")] = 16,
    checkpoint_every: Every = 200,
    seed: Seed = 0,
    device: o.Device = None,
) -> None:
    """Train a small denoiser for purification; an hour on one processor core, minutes on a GPU."""
    from equipoise.cli.progress import steps_bar
    from equipoise.training import pictures as sources
    from equipoise.training.diffusion import Recipe
    from equipoise.training.diffusion import train as run

    quiet()
    recipe = Recipe(side=side, steps=steps, batch=batch, seed=seed)
    draw = sources.scene if pictures is None else sources.from_folder(pictures)
    source = TESTBED if pictures is None else folder_source(pictures)
    with steps_bar("train diffusion") as progress:
        folder = run(
            recipe,
            draw,
            out,
            source=source,
            device=device,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
    show(f"written: {folder}")


@train.command()
def adversarial(
    model: Start,
    out: Folder,
    rows: Rows = None,
    steps: Steps = 1500,
    pictures: Annotated[int, typer.Option(min=1, help="Pictures in a step.")] = 16,
    questions: Annotated[int, typer.Option(min=1, help="Questions about each picture, at most.")] = 3,
    epsilon: o.Epsilon = "8/255",
    inner_steps: InnerSteps = 5,
    attacked: Attacked = 0.6,
    untargeted: Untargeted = 0.2,
    side: AttackedSide = None,
    parts: Parts = "vision,projector",
    lora: Rank = None,
    learning_rate: Annotated[float, typer.Option(help="At its peak; a cosine takes it to a hundredth.")] = 2e-4,
    blend: Annotated[
        float,
        typer.Option(
            help="Share of the learned change that is written, up to 1: less gives back accuracy for robustness. The "
            "same command with another share writes a finished training again."
        ),
    ] = 1.0,
    seed: Seed = 0,
    checkpoint_every: Every = 100,
    device: o.Device = None,
    dtype: TrainedType = None,
    mixed_precision: Mixed = MixedPrecision.no,
    gradient_checkpointing: o.Checkpointing = False,
) -> None:
    """Train a model to keep its replies on pictures that are attacked to make it refuse.

    What it should refuse is among the examples, too: where training has taken refusals away, nothing is written.
    """
    from equipoise.cli.progress import steps_bar
    from equipoise.training import examples
    from equipoise.training.adversarial import Recipe
    from equipoise.training.adversarial import train as run

    quiet()
    recipe = Recipe(
        steps=steps,
        pictures=pictures,
        questions=questions,
        epsilon=epsilon,
        inner_steps=inner_steps,
        attacked=attacked,
        untargeted=untargeted,
        side=side,
        parts=parse_parts(parts),
        rank=lora,
        learning_rate=learning_rate,
        seed=seed,
    )
    draw: examples.Draw = examples.from_testbed if rows is None else examples.read_rows(rows)
    source = TESTBED if rows is None else file_source(rows)
    precision = dtype if dtype or lora else o.Dtype.float32
    target = load(model, Machine(device, precision, gradient_checkpointing=gradient_checkpointing))
    with steps_bar(f"train {model}") as progress:
        folder = run(
            target,
            recipe,
            draw,
            out,
            source=source,
            mixed_precision=mixed_precision.value,
            blend=blend,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
    show(f"written: {folder}")


def load(name: str, machine: Machine) -> HuggingFaceModel:
    """A model that can be trained.

    Raises:
        ModelError: there is none, or it is not one of transformers.
    """
    from equipoise.models.hf import HuggingFaceModel

    found = machine.load(name)
    if not isinstance(found, HuggingFaceModel):
        raise ModelError(f"expected a transformers model, got {name}; try a folder written by save_pretrained")
    return found


def parse_parts(text: str) -> tuple[str, ...]:
    """`"projector,vision"` as parts, in the order of `training.parts.PARTS`, so that one recipe has one spelling.

    Raises:
        UsageError: others, or none.
    """
    from equipoise.training.parts import PARTS, require_parts

    given = [part.strip() for part in text.split(",") if part.strip()]
    require_parts(given)
    return tuple(part for part in PARTS if part in given)


def folder_source(folder: Path) -> str:
    """Names the pictures in a folder by a hash over their names and sizes.

    Raises:
        UsageError: no picture in it.
        PictureError: it cannot be read.
    """
    import hashlib

    from equipoise.data.pictures import find_pictures

    try:
        listed = "\n".join(f"{path.name}:{path.stat().st_size}" for path in find_pictures([folder]))
    except OSError as error:
        raise PictureError(f"expected readable pictures in {folder}, got {error.strerror}; try another") from error
    return f"pictures:{hashlib.sha256(listed.encode(errors='surrogateescape')).hexdigest()}"


def file_source(file: Path) -> str:
    """Names a file of rows by a hash over its bytes.

    Raises:
        UsageError: it cannot be read.
    """
    import hashlib

    try:
        return f"rows:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    except OSError as error:
        raise UsageError(f"expected a readable file, got {file} ({error.strerror}); try another --rows") from error
