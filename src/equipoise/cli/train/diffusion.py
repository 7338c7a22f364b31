"""`equipoise train diffusion`: denoisers for purification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_table, quiet
from equipoise.cli.options.compute import Device
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.train.options import TESTBED, Every, Folder, Seed, Steps
from equipoise.errors import PictureError, os_reason


@with_options
def diffusion(
    out: Folder,
    picture_folder: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures (not its subfolders); by default scenes of the embedded world."),
        FormerName("--pictures"),
    ] = None,
    steps: Steps = 2600,
    side: Annotated[int, typer.Option(min=8, help="Pictures are resized to this square; a multiple of 8.")] = 96,
    batch: Annotated[int, typer.Option(min=1, help="Pictures in a step.")] = 16,
    checkpoint_every: Every = 200,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Train a small denoiser for purification; an hour on one processor core, minutes on a GPU."""
    from equipoise.cli.options.progress import steps_bar
    from equipoise.training import denoiser_pictures
    from equipoise.training.denoiser import DenoiserTrainingConfig, SamplePicture
    from equipoise.training.denoiser import train as run

    quiet()
    recipe = DenoiserTrainingConfig(side=side, steps=steps, batch=batch, seed=seed)
    sample_picture: SamplePicture
    if picture_folder is None:
        sample_picture, source = denoiser_pictures.sample_world_picture, TESTBED
    else:
        sample_picture, source = denoiser_pictures.folder_sampler(picture_folder), folder_source(picture_folder)
    with steps_bar("train diffusion") as progress:
        folder = run(
            recipe,
            sample_picture,
            out,
            source=source,
            device=device,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
    print_table(f"written: {folder}")


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
        raise PictureError(f"expected readable pictures in {folder}, got {os_reason(error)}; try another") from error
    # Names that are no UTF-8 come from the file system as half surrogate pairs.
    return f"pictures:{hashlib.sha256(listed.encode(errors='surrogateescape')).hexdigest()}"
