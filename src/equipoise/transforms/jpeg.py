"""JPEG: the value is that of a real encoder, the gradient that of a differentiable surrogate.

The surrogate's steps are those of the standard (ITU-T T.81 and JFIF): full-range YCbCr, chroma halved in both
directions, 8 x 8 blocks, DCT, division by the table, rounding, and back. All steps but rounding are linear, so that
only rounding needs a derivative of its own; its true one is 0 everywhere, which would end every attack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional

from equipoise.errors import UsageError
from equipoise.media.quantize import to_image, to_pixels
from equipoise.transforms.base import Transform

STRAIGHT_THROUGH_SHARE = 0.25
"""Share of the straight-through derivative; the rest is that of Shin and Song (2017), `3 (x - round(x))^2`.

Theirs alone is 0 for every coefficient that is 0, which in a smooth picture is nearly all of them.
"""

LARGEST = 65_488
"""Pixels of a side that are encoded together: the most that libjpeg takes, 65,500, in whole blocks of 16."""

_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@dataclass(frozen=True)
class Jpeg(Transform):
    """Save as JPEG at a quality drawn from a range, and read again.

    Forward: Pillow's encoder and decoder, exactly. Backward: a differentiable JPEG (colour transform, 4:2:0
    chroma, 8 x 8 DCT, the file's own quantisation tables) whose rounding has the derivative of
    `round(x) + (x - round(x))^3` (Shin and Song 2017) mixed with the straight-through one.
    """

    lowest: int = 60
    """Lowest quality, 1 to 100."""
    highest: int = 90
    """Highest quality."""

    @property
    def is_random(self) -> bool:
        """Whether the quality is drawn."""
        return self.lowest < self.highest

    def __post_init__(self) -> None:
        if not 1 <= self.lowest <= self.highest <= 100:
            raise UsageError(f"expected JPEG qualities in 1..100, got {self.lowest}..{self.highest}; try 60..90")

    def __call__(self, pixels: Tensor, random: Generator) -> Tensor:
        """The picture as the file holds it, or as several files do where it is larger than one can be."""
        return self._at(int(torch.randint(self.lowest, self.highest + 1, (), generator=random)), pixels)

    def _at(self, quality: int, pixels: Tensor) -> Tensor:
        for side in (1, 2):
            if pixels.shape[side] > LARGEST:
                return torch.cat([self._at(quality, part) for part in pixels.split(LARGEST, side)], side)
        buffer = BytesIO()
        to_image(pixels).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as read:
            tables = read.quantization  # type: ignore[attr-defined]
            exact = to_pixels(read).to(pixels)
        # The tables of this very file: the gradient is that of the quality which was drawn.
        smooth = surrogate(pixels, tables[0], tables[1])
        return smooth + (exact - smooth).detach()


def surrogate(pixels: Tensor, luma: Sequence[int], chroma: Sequence[int]) -> Tensor:
    """A picture after JPEG with 4:2:0 chroma, to about a level of a real codec, with a useful gradient.

    Args:
        pixels: `3 x H x W` in `[0, 1]`.
        luma: 64 quantisation steps of the luma, row by row.
        chroma: 64 of the chroma.

    Returns:
        `3 x H x W` in `[0, 1]`.
    """
    height, width = pixels.shape[1:]
    # Blocks of 8 x 8 in chroma of half the size need sides that are multiples of 16; encoders repeat the edge, too.
    padded = functional.pad(pixels[None], (0, -width % 16, 0, -height % 16), mode="replicate")[0]
    colours = torch.einsum("dc,chw->dhw", padded.new_tensor(_TO_YCBCR), padded * 255)
    # Luma is shifted to be centred on 0; chroma is so already, as the usual shift by 128 is left out.
    luma_planes = _quantize_blocks(colours[:1] - 128, luma)
    chroma_planes = _quantize_blocks(functional.avg_pool2d(colours[None, 1:], 2)[0], chroma)
    upsampled = functional.interpolate(chroma_planes[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    rgb = torch.einsum("cd,dhw->chw", padded.new_tensor(_TO_RGB), torch.cat([luma_planes + 128, upsampled]))
    cropped = rgb[:, :height, :width] / 255
    # Straight through the clip: white and black areas overshoot, and would lose their whole gradient.
    return cropped + (cropped.clamp(0, 1) - cropped).detach()


def _quantize_blocks(planes: Tensor, table: Sequence[int]) -> Tensor:
    """`C x H x W` planes through DCT, quantisation and back; sides are multiples of 8."""
    count, height, width = planes.shape
    cosines = _cosines().to(planes)
    steps = planes.new_tensor(list(table)).reshape(8, 8)
    blocks = planes.reshape(count, height // 8, 8, width // 8, 8).transpose(2, 3)
    # `blocks` is `C x H/8 x W/8 x 8 x 8`. A two-dimensional DCT is one product for the columns and one for the rows;
    # the matrix is orthonormal, so that its transpose goes back.
    scaled = (cosines @ blocks @ cosines.T) / steps
    restored = cosines.T @ (_soft_round(scaled) * steps) @ cosines
    return restored.transpose(2, 3).reshape(count, height, width)


def _soft_round(values: Tensor) -> Tensor:
    """`round` in value; its derivative is a mix of `3 (x - round(x))^2` and 1."""
    whole = values.round().detach()
    rest = values - whole
    smooth = (1 - STRAIGHT_THROUGH_SHARE) * rest**3 + STRAIGHT_THROUGH_SHARE * rest
    return whole + smooth - smooth.detach()


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The 8 x 8 orthonormal DCT-II."""
    # The factors sqrt(2/8) = 0.5, and sqrt(1/8) = 0.5 ** 1.5 for the constant row, make the rows orthonormal.
    rows = [[math.cos((2 * x + 1) * u * math.pi / 16) * (0.5 if u else 0.5**1.5) for x in range(8)] for u in range(8)]
    return torch.tensor(rows)
