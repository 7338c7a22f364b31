"""Float pixels in [0, 1] and the 8-bit values that a picture file holds.

Nothing here imports torch before a function needs it, so that saved results can be read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from equipoise.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

LEVELS: Final = 255
"""The highest 8-bit value; a float pixel of 1 stands for it."""
LEVEL_TOLERANCE: Final = 1e-3
"""Distance from a whole 8-bit value, in levels, up to which a float pixel counts as that value.

float32 pixels times 255 miss their level by up to 3e-5; nothing that lies between two levels is this close to one."""


def to_pixels(image: Image) -> Tensor:
    """An 8-bit RGB picture as `3 x H x W` float32 in `[0, 1]`; `to_image` is the exact inverse."""
    import numpy as np
    import torch

    values = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.uint8))
    return values.permute(2, 0, 1).contiguous().float() / LEVELS


def to_image(pixels: Tensor) -> Image:
    """`3 x H x W` floats in `[0, 1]` as the nearest 8-bit RGB picture."""
    from PIL import Image

    values = pixels.detach().float().mul(LEVELS).round().clamp(0, LEVELS).byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def quantize(pixels: Tensor) -> Tensor:
    """The nearest 8-bit picture, as floats in `[0, 1]`; without a useful gradient (see `eight_bit`)."""
    return pixels.mul(LEVELS).round_().clamp_(0, LEVELS).div_(LEVELS)


def is_quantized(pixels: Tensor) -> bool:
    """Whether every value is a multiple of 1/255, within `LEVEL_TOLERANCE`."""
    levels = pixels.mul(LEVELS)
    return bool((levels - levels.round()).abs().max() < LEVEL_TOLERANCE)


def eight_bit(pixels: Tensor) -> Tensor:
    """The nearest 8-bit picture with a straight-through gradient.

    The gradient is that of the identity where nothing was clipped, black and white included, and 0 elsewhere.
    """
    import torch

    nearest = (pixels.detach().clamp(0, 1) * LEVELS).round() / LEVELS
    # Not the gradient of `clamp`: since torch 2.14 that is 0 at 0 and 1 themselves, where saturated areas lie.
    inside = (pixels >= 0) & (pixels <= 1)
    return torch.where(inside, pixels + (nearest - pixels).detach(), nearest)


def check_pixels(pixels: Tensor) -> None:
    """Raise `UsageError` unless `pixels` are float, `3 x H x W`, in `[0, 1]`."""
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.numel() or not pixels.is_floating_point():
        raise UsageError(
            f"expected float pixels of shape 3 x H x W, got {pixels.dtype} {tuple(pixels.shape)}; "
            "try equipoise.media.quantize.to_pixels(picture)"
        )
    low, high = float(pixels.detach().min()), float(pixels.detach().max())
    # A comparison with NaN is false, so a picture with NaN fails here, too.
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise UsageError(f"expected pixels in [0, 1], got [{low:.3g}, {high:.3g}]; try clamping or dividing by 255")
