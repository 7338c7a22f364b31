"""Pictures and curves for a page: small copies as data URIs, and a loss curve as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from equipoise.media.encode import data_url

SIDE = 512
"""Longest side of a picture on the page; the exact file lies beside the page."""
GAIN = 16
"""How much the difference is amplified."""


def data_uri(image: Image.Image, *, resample: Image.Resampling = Image.Resampling.LANCZOS) -> str:
    """A copy of at most `SIDE` pixels, ready for `src`."""
    scale = min(1.0, SIDE / max(image.size))
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), resample)
    buffer = io.BytesIO()
    # Small pictures are shown enlarged, where the artefacts of a lossy copy would be mistaken for the change.
    image.save(buffer, "WEBP", lossless=max(image.size) <= 160, quality=88)
    return data_url(buffer.getvalue(), "image/webp")


def difference(clean: Image.Image, perturbed: Image.Image) -> Image.Image:
    """`GAIN` times the change, on middle grey; clipped at black and white."""
    # In 16 bits: differences of unsigned bytes would wrap around, and 3 - 5 would be 254.
    change = np.asarray(perturbed, np.int16) - np.asarray(clean, np.int16)
    return Image.fromarray(np.clip(128 + GAIN * change, 0, 255).astype(np.uint8))


def difference_uri(clean: Image.Image, perturbed: Image.Image) -> str:
    """The difference for `src`; picked, not averaged, when reduced, as averaging would hide fine noise."""
    return data_uri(difference(clean, perturbed), resample=Image.Resampling.NEAREST)


@dataclass(frozen=True)
class LossCurve:
    """A loss curve in a box of `width` x `height` SVG units, and what its axes say."""

    path: str
    """The `d` of an SVG path."""
    width: int
    """Width of the box."""
    height: int
    """Height of the box."""
    top: str
    """Label of the upper edge."""
    bottom: str
    """Label of the lower edge."""
    last: str
    """Loss at the end."""
    last_y: float
    """Where the curve ends, from the top."""
    steps: int
    """Number of points."""


def curve(losses: Sequence[float], *, width: int = 320, height: int = 96) -> LossCurve | None:
    """The curve of some losses from 0 to their maximum; None without two finite values."""
    # The step where an attack diverged has no finite loss; the curve ends before it.
    points = [(i, loss) for i, loss in enumerate(losses) if math.isfinite(loss)]
    if len(points) < 2:
        return None
    # A page needs no more points than the box has units.
    stride = max(1, len(points) // (2 * width))
    kept = points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])
    top = max(max(loss for _, loss in points), 1e-9)
    last = points[-1][0]
    coordinates = [f"{width * i / last:.1f},{height * (1 - max(loss, 0) / top):.1f}" for i, loss in kept]
    end = points[-1][1]
    return LossCurve(
        path="M" + " L".join(coordinates),
        width=width,
        height=height,
        top=f"{top:.2f}",
        bottom="0",
        last=f"{end:.3f}",
        last_y=height * (1 - max(end, 0) / top),
        steps=len(losses),
    )
