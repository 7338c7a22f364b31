"""Pictures that a denoiser learns from: scenes of the embedded world, or the pictures of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from equipoise.data.pictures import find_pictures
from equipoise.media.decode import open_picture
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import sample_scene


def sample_world_picture(rng: np.random.Generator) -> Image.Image:
    """A scene of the embedded world; a quarter carry an emblem, so that purification does not wash emblems away."""
    emblem = str(rng.choice(["none", "emblem", "decoy"], p=[0.6, 0.25, 0.15]))
    return draw_scene(sample_scene(rng, emblem=emblem))  # type: ignore[arg-type]


def folder_sampler(folder: Path) -> Callable[[np.random.Generator], Image.Image]:
    """A function that returns random pictures of a folder, mirrored half of the time.

    Raises:
        UsageError: no picture in it.
        PictureError: it, or a picture in it, cannot be read.
    """
    paths = find_pictures([folder])
    for path in paths:
        # Better now than after hours of training.
        open_picture(path)

    def sample(rng: np.random.Generator) -> Image.Image:
        picture = open_picture(paths[int(rng.integers(len(paths)))])
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture

    return sample
