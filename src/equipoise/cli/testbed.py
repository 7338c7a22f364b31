"""`equipoise testbed`: the embedded world and its reference models."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, quiet, show, size, table

testbed = typer.Typer(no_args_is_help=True, help="List, train and show the reference models.")


@testbed.command("list")
def list_models(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Name the reference models that come with the package, the usual target first."""
    from equipoise.testbed import reference

    models = reference.list_models()
    if json:
        print_json({"models": [asdict(model) for model in models]})
        return
    rows = [
        (
            m.name,
            m.family,
            m.role,
            size(m.bytes),
            m.sha256[:12],
            ", ".join(f"{k} {v}" for k, v in m.scores.items()),
        )
        for m in models
    ]
    show(table("", ["name", "family", "role", "size", "sha256", "scores"], rows))


@testbed.command()
def train(
    family: Annotated[str, typer.Argument(help="Which architecture, e.g. llava.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the model; resumes where it stopped.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    word_only: Annotated[
        bool,
        typer.Option("--word-only", help="Without forbidden pictures: a model that no picture makes refuse."),
    ] = False,
) -> None:
    """Train a reference model; hours on two processor cores, minutes on a GPU."""
    from equipoise.testbed import train as training

    recipe = training.Recipe(family, word_only=word_only)
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    quiet()

    def tell(step: int, steps: int, loss: float) -> None:
        print(f"step {step} of {steps}, loss {loss:.3f}", file=sys.stderr, flush=True)

    show(f"written: {training.train(recipe, out, progress=tell)}")


@testbed.command("show")
def draw_page(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("testbed.html"),
    model: Annotated[list[str] | None, typer.Option(help="Whose replies to show; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Which samples.")] = 0,
) -> None:
    """Draw a page of samples from the world, with the models' replies."""
    from equipoise.testbed import reference
    from equipoise.testbed import show as samples

    quiet()
    names = model or [m.name for m in reference.list_models()]
    samples.draw(names, out, seed)
    show(f"written: {out}")
