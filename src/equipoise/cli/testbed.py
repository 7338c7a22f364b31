"""`equipoise testbed`: the embedded world and its reference models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table, quiet, size, table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import Device, DeviceOptions
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.train.options import Folder

testbed = typer.Typer(no_args_is_help=True, help="List, train, score and show the reference models.")


@testbed.command("list")
def list_models(
    json: o.Json = False,
) -> None:
    """Name the reference models that come with the package, the usual target first."""
    from equipoise.testbed import reference

    models = reference.list_models()
    if json:
        print_json({"models": [asdict(model) for model in models]})
        return
    rows = [
        (m.name, m.family, m.role, size(m.bytes), m.sha256[:12], ", ".join(f"{k} {v}" for k, v in m.scores.items()))
        for m in models
    ]
    print_table(table("", ["name", "family", "role", "size", "sha256", "scores"], rows))


@testbed.command()
def train(
    family: Annotated[str, typer.Argument(help="Which architecture: llava or internvl.")],
    out: Folder,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1600,
    seed: Annotated[int, typer.Option(min=0, help="Of the initialisation and of every row.")] = 0,
    word_only: Annotated[
        bool,
        typer.Option("--word-only", help="Without forbidden pictures: a model that no picture makes refuse."),
    ] = False,
    device: Device = None,
) -> None:
    """Train a reference model; an hour on one processor core, minutes on a GPU."""
    from equipoise.cli.options.progress import steps_bar
    from equipoise.training.reference_models import ReferenceTrainingConfig
    from equipoise.training.reference_models import train as run

    quiet()
    with steps_bar(f"train {family}") as progress:
        folder = run(
            ReferenceTrainingConfig(family, steps=steps, seed=seed, word_only=word_only),
            out,
            device=device,
            progress=progress,
        )
    print_table(f"written: {folder}")


@testbed.command()
@with_options
def score(
    model: Annotated[str, typer.Argument(help="A reference model, or the folder of one.")],
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts of each cell.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Which prompts.")] = 0,
    compute: DeviceOptions = DeviceOptions(),
    json: o.Json = False,
) -> None:
    """Ask a model held-out prompts of every cell of the world and count right answers and refusals."""
    from equipoise.models.base import require_reads_pictures
    from equipoise.testbed.scores import score as score_model

    quiet()
    loaded = compute.config.load(model)
    require_reads_pictures(loaded, "score it on scenes")
    rows = score_model(loaded, count, seed=seed)
    if json:
        print_json({"model": model, "conditions": [asdict(row) for row in rows]})
        return
    lines = [(row.condition.replace("_", " "), str(row.exact), str(row.refused)) for row in rows]
    print_table(table(model, ["condition", "gave the reference answer", "refused"], lines))


@testbed.command()
@with_options
def publish(
    training: Annotated[Path, typer.Argument(help="The --out folder of a finished training.")],
    name: Annotated[str, typer.Option(help="What testbed/NAME shall be.")],
    role: Annotated[str, typer.Option(help="target, bystander, negative result or robust target.")] = "target",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of reference models; by default that of this package."),
        FormerName("--weights"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts of each cell.")] = 400,
    compute: DeviceOptions = DeviceOptions(),
) -> None:
    """Put a trained model among the reference models, score it and write its card."""
    from equipoise.testbed.cards import publish as put
    from equipoise.testbed.reference import WEIGHTS

    quiet()
    card = put(training, out or WEIGHTS, name=name, role=role, count=count, compute=compute.config)
    print_table(f"written: {(out or WEIGHTS) / name}")
    print_table(", ".join(f"{key} {value}" for key, value in card.scores.items()))


@testbed.command()
def pictures(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and questions.jsonl.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Which scenes.")] = 0,
) -> None:
    """Draw harmless scenes as PNG files, with held-out questions and their answers."""
    from equipoise.testbed.pictures import write_pictures

    for path in write_pictures(out, count, seed=seed):
        print_table(str(path))


@testbed.command("show")
@with_options
def draw_page(
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("testbed.html"),
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Whose replies to show; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which samples.")] = 0,
    compute: DeviceOptions = DeviceOptions(),
) -> None:
    """Draw a page of samples from the world, with the models' replies."""
    from equipoise.testbed import reference
    from equipoise.testbed import sample_page as samples

    quiet()
    names = model or [m.name for m in reference.list_models()]
    samples.write_page(names, out, seed, compute=compute.config)
    print_table(f"written: {out}")
