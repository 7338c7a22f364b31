"""Decodes the pictures of requests within limits, and encodes them again for the upstream.

The upstream gets exactly the pixels that the guard checked: upright (EXIF orientation applied), on white where they
were transparent, and without metadata or colour profile. Sending on the original file would let a file pass that the
guard's decoder and the upstream's decoder read differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from equipoise.guard.policy import PicturePolicy
from equipoise.media.decode import DecodeLimits, decode_picture
from equipoise.media.encode import png_data_url, read_data_url

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
"""Accepted formats, by Pillow's names; they are those of OpenAI's API."""


@dataclass(frozen=True)
class DecodedPicture:
    """A decoded picture and its new encoding."""

    image: Image
    """8-bit RGB."""
    url: str
    """A data URL of exactly these pixels."""


def decode_picture_url(url: str, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture in a data URL.

    Args:
        url: the base64 data URL, as it stands in the request.
        limits: the most bytes and pixels.

    Raises:
        PictureError: not a data URL, not base64, not a picture, too large, or with several frames.
    """
    return decoded(read_data_url(url, max_bytes=limits.max_bytes), limits)


def decoded(data: bytes, limits: PicturePolicy) -> DecodedPicture:
    """Decode the bytes of a picture file.

    Args:
        data: the file; its format is recognised by content, not by name.
        limits: the most pixels.

    Raises:
        PictureError: not a picture, too large, or with several frames.
    """
    image = decode_picture(data, "a picture of the request", DecodeLimits(limits.max_pixels, FORMATS))
    # The fastest compression: the URL is sent on once and not kept.
    return DecodedPicture(image, png_data_url(image, compress_level=1))
