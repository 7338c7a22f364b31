"""`equipoise train derta`: an adapter with which a chat model refuses at any position of a reply."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_table, quiet, warn
from equipoise.cli.options.compute import Device
from equipoise.cli.options.expansion import with_options
from equipoise.cli.train.options import AdapterRank, Compiled, Every, Seed

if TYPE_CHECKING:
    from equipoise.training.derta.train import DertaTrainingConfig


LEAST_COVERED = 0.5
"""Share of the refusals that the wanted openers should begin."""


class CutPlace(StrEnum):
    """Where a harmful answer is cut."""

    word = "word"
    token = "token"


class FrozenDtype(StrEnum):
    """Number format of the weights that do not learn."""

    bfloat16 = "bfloat16"
    float32 = "float32"


ChatModelName = Annotated[
    str, typer.Argument(help="A chat model, with pictures or without: all names that audit takes.", show_default=False)
]
RefusalRows = Annotated[
    Path,
    typer.Option(
        "--rows",
        help="One JSON object a line with kind (harmful, boundary or ordinary) and prompt; harmful rows with refusal "
        "and harmful_answer, the others with answer; optionally system and pictures.",
        show_default=False,
    ),
]
AdapterFolder = Annotated[
    Path, typer.Option("--out", "-o", help="Folder of the adapter, for MODEL+FOLDER; resumes where it stopped.")
]


@dataclass(frozen=True, kw_only=True)
class DertaOptions:
    """What is learned, and how."""

    epochs: Annotated[int, typer.Option(min=1, help="Times over the rows, each with cuts of its own.")] = 2
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps, in place of --epochs.", show_default=False)
    ] = None
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 1e-4
    batch: Annotated[int, typer.Option(min=1, help="Rows in a step.")] = 8
    lora: AdapterRank = 8
    prefix: Annotated[
        bool, typer.Option("--prefix/--no-prefix", help="Learn refusals after the beginning of a harmful answer.")
    ] = True
    rto_weight: Annotated[
        float, typer.Option(help="Weight of wanting a refusal at every token of a harmful answer; 0 leaves it out.")
    ] = 1.0
    negative_weight: Annotated[
        float, typer.Option(help="Weight of not wanting one at the tokens of a harmless answer.")
    ] = 1.0
    keep_fraction: Annotated[
        float, typer.Option(help="Share of an answer's tokens at which that is learned, drawn anew for each epoch.")
    ] = 1.0
    cut: Annotated[CutPlace, typer.Option(help="Where harmful answers are cut.")] = CutPlace.word
    boundary_mix: Annotated[
        bool,
        typer.Option(
            "--boundary-mix/--no-boundary-mix", help="Learn from boundary rows; without, it refuses more of them."
        ),
    ] = True
    opener: Annotated[
        list[str] | None,
        typer.Option(
            "--opener", help="How refusals begin. May be repeated; by default learned from the rows' refusals."
        ),
    ] = None
    longest: Annotated[int, typer.Option(min=16, help="Tokens of a row at most.")] = 1024
    dtype: Annotated[FrozenDtype, typer.Option(help="Number format of the weights that do not learn.")] = (
        FrozenDtype.bfloat16
    )
    compiled: Compiled = False
    seed: Seed = 0

    def config(self, model: str) -> DertaTrainingConfig:
        """The training of a model with these options.

        Raises:
            UsageError: a fraction or weight out of range.
        """
        from equipoise.training.derta.train import DertaTrainingConfig

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {
            "rate": values.pop("learning_rate"),
            "rank": values.pop("lora"),
            "openers": tuple(values.pop("opener") or ()),
        }
        return DertaTrainingConfig(model=model, **values | {"cut": self.cut.value, "dtype": self.dtype.value})


@with_options
def derta(
    model: ChatModelName,
    rows: RefusalRows,
    out: AdapterFolder,
    options: DertaOptions = DertaOptions(),
    checkpoint_every: Every = 100,
    device: Device = None,
) -> None:
    """Train a chat model to refuse at any position of a reply (DeRTa): harmful prefixes, and a refusal at every token.

    The adapter loads as MODEL+FOLDER wherever a model is named. The whole file of rows is checked before the first
    step.
    """
    from equipoise.cli.options.progress import steps_bar
    from equipoise.data.refusal_rows import read_refusal_rows
    from equipoise.training.derta.train import row_warnings, train

    quiet()
    config = options.config(model)
    learned = read_refusal_rows(rows)
    counts = row_warnings(learned)
    if counts.refusals or counts.harmful_answers or counts.answers:
        warn(
            f"as the structural judge reads them, {counts.refusals} refusals do not refuse, {counts.harmful_answers} "
            f"harmful answers refuse, and {counts.answers} answers to harmless prompts refuse"
        )
    if counts.repeated:
        warn(f"{counts.repeated} rows repeat an earlier one and count as often as they are there")
    if counts.contrary:
        warn(f"{counts.contrary} prompts are harmful in one row and harmless in another: each teaches the contrary")
    if not config.boundary_mix:
        warn("without boundary rows a model trained so refuses many more harmless prompts")
    with steps_bar("train derta") as progress:
        folder, wanted = train(
            config, learned, out, checkpoint_every=checkpoint_every, device=device, progress=progress
        )
    if wanted.left_out:
        warn(f"not wanted, as answers use them as well: {', '.join(map(repr, wanted.left_out))}")
    if config.rto_weight and wanted.covered < LEAST_COVERED:
        warn(
            f"the wanted openers begin {100 * wanted.covered:.0f} % of the refusals only, and the others pull against "
            "them: replies may break into repeated openers; try refusals that begin as in 'Sorry, I ...'"
        )
    size = (folder / "adapter_model.safetensors").stat().st_size / 1e6
    print_table(
        f"openers: {', '.join(map(repr, wanted.texts))}, which begin {100 * wanted.covered:.0f} % of the refusals",
        f"written: {folder} ({size:.1f} MB); use it as {model}+{folder}",
    )
