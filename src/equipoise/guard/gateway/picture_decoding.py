"""Pictures in requests: decoded with limits, turned as their EXIF says, stripped of all else, and written again.

What the upstream sees is the picture that was looked at: the pixels of its first frame, flattened on white, without
metadata or colour profile.
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


@dataclass(frozen=True)
class DecodedPicture:
    """A picture as it was looked at."""

    image: Image
    """8-bit RGB."""
    url: str
    """A data URL of exactly these pixels."""


def decode_picture_url(url: str, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture's data URL.

    Args:
        url: as it stands in the request.
        limits: of bytes and pixels.

    Raises:
        PictureError: no data URL, no base64, no picture, too large, or several frames.
    """
    return decoded(read_data_url(url, max_bytes=limits.max_bytes), limits)


def decoded(data: bytes, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture's bytes.

    Args:
        data: a file's, whatever it is called.
        limits: of pixels.

    Raises:
        PictureError: no picture, too large, or several frames.
    """
    image = decode_picture(data, "a picture of the request", DecodeLimits(limits.max_pixels, FORMATS))
    # The fastest compression: the URL is sent on once and not kept.
    return DecodedPicture(image, png_data_url(image, compress_level=1))
