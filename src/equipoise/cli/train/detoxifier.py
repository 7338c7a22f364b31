"""`equipoise train detoxifier`: a model that rewrites harmful replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_table, quiet, warn
from equipoise.cli.options.compute import Device
from equipoise.cli.train.options import AdapterOnly, Compiled, Every, Folder, FrozenBf16, Rank, Seed


def detoxifier(
    rows: Annotated[
        Path,
        typer.Option(
            "--rows",
            help="One JSON object a line with id, prompt, response (a harmful one) and rewrite (a harmless one).",
            show_default=False,
        ),
    ],
    base: Annotated[
        str,
        typer.Option(
            "--base",
            help="What to start from: a folder, a .gguf file or ORG/NAME of any causal language model of transformers.",
            show_default=False,
        ),
    ],
    out: Folder,
    epochs: Annotated[int, typer.Option(min=1, help="Times over the rows.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 5e-5,
    batch: Annotated[int, typer.Option(min=1, help="Rows in a step.")] = 8,
    longest: Annotated[int, typer.Option(min=32, help="Tokens of a row.")] = 1024,
    lora: Rank = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 in the forward pass.")] = False,
    frozen_bf16: FrozenBf16 = False,
    adapter_only: AdapterOnly = False,
    compiled: Compiled = False,
    checkpoint_every: Every = 200,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Train a detoxifier: question and harmful reply in, harmless reply out; only the rewrite is learned."""
    from equipoise.cli.options.progress import steps_bar
    from equipoise.guard.training_rows import with_rewrites
    from equipoise.training.detoxifier import DetoxifierTrainingConfig, row_warnings, train

    quiet()
    learned = with_rewrites(rows)
    counts = row_warnings(learned)
    if counts.refusals:
        warn(f"{counts.refusals} of {len(learned)} rewrites refuse; they teach refusing, which is not detoxifying")
    if counts.same or counts.empty:
        warn(f"left out: {counts.same} rewrites that equal the reply, {counts.empty} empty ones")
    recipe = DetoxifierTrainingConfig(
        base,
        epochs,
        learning_rate,
        batch,
        seed,
        lora=lora,
        bf16=bf16,
        frozen_bf16=frozen_bf16,
        adapter_only=adapter_only,
        compiled=compiled,
        longest=longest,
    )
    with steps_bar("train detoxifier") as progress:
        folder = train(recipe, learned, out, checkpoint_every=checkpoint_every, device=device, progress=progress)
    print_table(f"written: {folder}")
