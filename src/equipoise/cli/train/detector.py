"""`equipoise train detector`: a harm detector from labelled replies."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_table, quiet, table, warn
from equipoise.cli.options.compute import Device
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.train.options import AdapterOnly, Compiled, Every, Folder, FrozenBf16, Rank, Seed
from equipoise.errors import UsageError


class DetectorInput(StrEnum):
    """What a detector reads."""

    response = "response"
    exchange = "exchange"
    both = "both"


ReplyRowsOption = Annotated[
    Path,
    typer.Option(
        "--rows",
        help="One JSON object a line with id, prompt, response and harmful (true or false); optionally dataset "
        "(rates are told apart by it), weight, and picture_text.",
        show_default=False,
    ),
]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        help="What to start from: a folder or ORG/NAME of any language model of transformers, encoder or decoder.",
        show_default=False,
    ),
]
HeldOut = Annotated[
    Path | None,
    typer.Option(help="More such rows: probabilities are calibrated and rates reported on them, nothing learned."),
]
DetectorModeName = Annotated[
    DetectorInput, typer.Option(help="Read replies alone, with what they answer, or learn both.")
]
DetectorRateOption = Annotated[float, typer.Option(help="At its peak; the linear unit learns ten times as fast.")]
EarlyExitLayers = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="LAYERS",
        help="Also distil a shallow network of so many layers that reads first and decides alone where it is sure "
        "of no harm; needs --held-out.",
    ),
    FormerName("--glance"),
]


@with_options
def detector(
    rows: ReplyRowsOption,
    base: Base,
    out: Folder,
    held_out: HeldOut = None,
    mode: DetectorModeName = DetectorInput.both,
    epochs: Annotated[int, typer.Option(min=1, help="Times over the rows.")] = 3,
    learning_rate: DetectorRateOption = 5e-5,
    batch: Annotated[int, typer.Option(min=1, help="Rows in a step.")] = 16,
    lora: Rank = None,
    early_exit: EarlyExitLayers = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 in the forward pass.")] = False,
    frozen_bf16: FrozenBf16 = False,
    adapter_only: AdapterOnly = False,
    compiled: Compiled = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write matrices in 8 bits: a quarter of the bytes.")] = False,
    checkpoint_every: Every = 200,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Train a harm detector: a language model with one linear unit, on harmless and harmful replies."""
    from equipoise.cli.options.progress import steps_bar
    from equipoise.guard.training_rows import labelled
    from equipoise.training.detector import DetectorTrainingConfig, train
    from equipoise.training.early_exit import EarlyExitTrainingConfig, add_early_exit

    quiet()
    if early_exit is not None and held_out is None:
        raise UsageError("expected --held-out with --early-exit, got none; try a file of labelled replies")
    if early_exit is not None and adapter_only:
        raise UsageError("expected --early-exit with a detector's own weights, got --adapter-only; try one of them")
    learned = labelled(rows)
    watched = labelled(held_out) if held_out else ()
    config = DetectorTrainingConfig(
        base,
        epochs,
        learning_rate,
        batch,
        seed,
        mode=mode.value,
        lora=lora,
        bf16=bf16,
        frozen_bf16=frozen_bf16,
        adapter_only=adapter_only,
        compiled=compiled,
    )
    with steps_bar("train detector") as progress:
        folder = train(
            config,
            learned,
            out,
            held_out=watched,
            checkpoint_every=checkpoint_every,
            device=device,
            progress=progress,
            int8=int8,
        )
    if early_exit is not None:
        with steps_bar("train early exit") as progress:
            result = add_early_exit(
                EarlyExitTrainingConfig(early_exit, seed=seed, bf16=bf16),
                folder,
                learned,
                watched,
                checkpoint_every=checkpoint_every,
                device=device,
                progress=progress,
                int8=int8,
            )
        print_table(
            f"the early exit decides {result.decided} of {result.windows} held-out windows, among them "
            f"{result.missed} of {result.positives} that the detector takes for harmful"
        )
    if held_out:
        _print_rates(folder)
    else:
        warn("without --held-out its probabilities are not calibrated, and nobody knows how good it is")
    print_table(f"written: {folder}")


def _print_rates(folder: Path) -> None:
    import json

    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    columns = ["held out", "harmful", "harmless", "AUC", "found at 1 % false alarms", "at 5 %"]
    rows = [
        (
            name,
            rates["harmful"],
            rates["harmless"],
            rates["auc"],
            rates.get("tpr_at_fpr_0.01", ""),
            rates.get("tpr_at_fpr_0.05", ""),
        )
        for name, rates in metrics.items()
    ]
    print_table(table("", columns, rows))
