"""Pictures as PNG bytes, and bytes as data URLs and back."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import TYPE_CHECKING, Final

from equipoise.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

_HEAD: Final = re.compile(r"data:image/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)


_HEADER_END: Final = 33
"""Bytes of a PNG's signature (8) and of its first chunk, IHDR (25)."""


def png_bytes(
    image: Image, *, compress_level: int = -1, icc_profile: bytes | None = None, chunks: bytes = b""
) -> bytes:
    """A lossless PNG file.

    Args:
        image: any mode that PNG holds.
        compress_level: zlib's, from 0 (fastest) to 9 (smallest); -1 is its default.
        icc_profile: colour profile to write with it; the pixels stay as they are.
        chunks: whole ones that are written with it, such as those of `metadata.png_colours`.
    """
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=compress_level, icc_profile=icc_profile)
    data = file.getvalue()
    # Pillow writes none of these chunks itself; they belong before the palette and the pixels.
    return data[:_HEADER_END] + chunks + data[_HEADER_END:] if chunks else data


def data_url(content: bytes, media_type: str = "image/png") -> str:
    """A file's bytes as a base64 data URL."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def png_data_url(image: Image, *, compress_level: int = -1) -> str:
    """A picture as the data URL of a lossless PNG; arguments of `png_bytes`."""
    return data_url(png_bytes(image, compress_level=compress_level))


def read_data_url(url: str, *, max_bytes: int | None = None) -> bytes:
    """The file in the base64 data URL of a picture.

    Args:
        url: `data:image/...;base64,...`.
        max_bytes: a larger file is refused before it is decoded.

    Raises:
        PictureError: no data URL of a picture, no valid base64, or too large.
    """
    head = _HEAD.match(url)
    if head is None:
        raise PictureError("expected a picture as a base64 data URL, got something else; try data:image/png;base64,...")
    # Four characters of base64 hold three bytes; up to two of the last three are padding.
    if max_bytes is not None and (len(url) - head.end()) * 3 // 4 > max_bytes + 2:
        raise PictureError(f"expected a picture of at most {max_bytes} bytes, got a larger one; try a smaller copy")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(
            f"expected a picture in base64, got a broken data URL ({error}); try encoding it again"
        ) from None
