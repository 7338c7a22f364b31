"""What people get of a picture file beside its colours on white: a colour profile, transparency, the owner's words.

Image processors of chat models drop them, and so does `media.decode.open_picture`. A copy for people keeps them.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from equipoise.media.decode import open_picture, upright, with_alpha
from equipoise.media.file_data import FileData, read_file_data
from equipoise.media.metadata import PNG_SIGNATURE, png_colours, png_profile, without_text

if TYPE_CHECKING:
    from torch import Tensor

_COLOUR_SPACE: Final = slice(16, 20)
"""Bytes of an ICC profile's header that name its colour space (ICC.1:2022, 7.2.6)."""
LARGEST_KEPT: Final = 2**20
"""Bytes of the largest profile that is kept: Pillow, and what is built on it, opens no PNG with a larger one."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """A picture's profile and transparency, upright."""

    profile: bytes | None = None
    """ICC profile of RGB colours; None for none, and for one of another colour space."""
    rgba: NDArray[np.uint8] | None = None
    """`H x W x 4` colours with their alpha; None where nothing is transparent."""
    colour_chunks: bytes = b""
    """What a PNG says of its colours beside a profile, such as their gamma; whole chunks."""
    data_chunks: bytes = b""
    """What the file says of the picture, as `read_file_data` returns it; whole chunks of a PNG."""
    notes: tuple[str, ...] = ()
    """What of the picture's file a copy cannot keep, in words."""

    @property
    def floor(self) -> Tensor | None:
        """The lowest value that each pixel can have on white, `H x W`; None where nothing is transparent.

        A pixel of opacity a is seen as `c a + (1 - a)`: black at most darkens it to 1 - a, and a fully transparent one
        is white whatever its colour is.
        """
        if self.rgba is None:
            return None
        from torch import from_numpy

        return from_numpy(1 - self.rgba[..., 3].astype(np.float32) / 255)

    def applied(self, flat: Image.Image, clean: Image.Image, levels: int) -> Image.Image:
        """A perturbed picture with the transparency of the clean one.

        On white it looks like `flat` as nearly as its alpha allows, and nowhere differs from `clean` by more than
        `levels`: fully transparent pixels stay as they are, because nothing of them is seen.

        Args:
            flat: the perturbed picture on white, 8-bit RGB.
            clean: the clean picture on white.
            levels: largest change of any value on white.
        """
        if self.rgba is None:
            return flat
        colours, alpha = self.rgba[..., :3], self.rgba[..., 3:].astype(np.float64) / 255
        wanted = np.asarray(flat, dtype=np.float64)
        # On white a colour c of opacity a is seen as a c + (1 - a) 255; solved for c, and rounded.
        solved = (wanted - 255 * (1 - alpha)) / np.maximum(alpha, 1 / 255)
        rounded = np.clip(np.rint(solved), 0, 255).astype(np.uint8)
        rounded = np.where(alpha > 0, rounded, colours)
        shown = np.asarray(on_white(_with_alpha(rounded, self.rgba)), dtype=np.int16)
        change = np.abs(shown - np.asarray(clean, dtype=np.int16)).max(-1, keepdims=True)
        return _with_alpha(np.where(change > levels, colours, rounded), self.rgba)


def read_appearance(path: Path) -> Appearance:
    """The appearance of a picture that `open_picture` reads.

    Raises:
        PictureError: it cannot be read.
    """
    open_picture(path)
    # Opening has shown that the file can be read, and read again. Only a PNG has chunks.
    data = path.read_bytes()
    try:
        profile, rgba, file_data = _contents(data)
    except ValueError:
        # Texts or a profile that are too large for Pillow; `open_picture` has just read the picture without them.
        _, rgba, file_data = _contents(without_text(data) or data)
        file_data = replace(file_data, notes=("left out of the copy: texts that are too large", *file_data.notes))
        profile = png_profile(data)
    if rgba is not None and bool((rgba[..., 3] == 255).all()):
        rgba = None
    kept, notes = _kept_profile(profile)
    return Appearance(
        profile=kept,
        rgba=rgba,
        colour_chunks=png_colours(data) if data.startswith(PNG_SIGNATURE) else b"",
        data_chunks=file_data.chunks,
        notes=(*notes, *file_data.notes),
    )


def _contents(data: bytes) -> tuple[object, NDArray[np.uint8] | None, FileData]:
    """What Pillow takes for the profile, the colours, and what the file says of the picture.

    The colours are upright and with their alpha; None where nothing may be transparent.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as opened:
        transparent = with_alpha(upright(opened))
        colours = None if transparent is None else np.asarray(transparent)
        return opened.info.get("icc_profile"), colours, read_file_data(opened, data)


_OTHER_SPACES: Final = (b"GRAY", b"CMYK", b"CMY ", b"Lab ", b"XYZ ", b"Luv ", b"YCbr", b"Yxy ", b"HSV ", b"HLS ")
"""Signatures of colour spaces beside RGB (ICC.1:2022, section 7.2.6)."""


def _kept_profile(profile: object) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile that a copy gets, and why it does not get the picture's."""
    if not isinstance(profile, bytes) or len(profile) < _COLOUR_SPACE.stop:
        return None, ()
    space = profile[_COLOUR_SPACE]
    if space != b"RGB ":
        what = f"is one of {space.decode().strip()} colours" if space in _OTHER_SPACES else "cannot be read"
        return None, (f"the colour profile {what} and is left out: the copy may look different",)
    if len(profile) > LARGEST_KEPT:
        return None, (
            f"the colour profile of {len(profile):,} bytes is left out, because much software opens no PNG with more "
            f"than {LARGEST_KEPT:,}: the copy may look different; try a copy of the picture converted to sRGB",
        )
    return profile, ()


def on_white(image: Image.Image) -> Image.Image:
    """An RGBA picture as it is seen on white, 8-bit RGB."""
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _with_alpha(colours: NDArray[np.uint8], rgba: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.concatenate([colours, rgba[..., 3:]], -1))
