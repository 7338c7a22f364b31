"""Pictures in requests: decoded with limits, turned as their EXIF says, stripped of all else, and written again.

What the upstream sees is the picture that was looked at: the pixels of its first frame, flattened on white, without
metadata or colour profile.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from equipoise.errors import PictureError
from equipoise.guard.policy import PicturePolicy

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
_DATA: Final = re.compile(r"data:image/[\w.+-]+(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)


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
    head = _DATA.match(url)
    if head is None:
        raise PictureError("expected a picture as a data URL in base64, got something else")
    if (len(url) - head.end()) * 3 // 4 > limits.max_bytes + 2:
        raise PictureError(f"expected a picture of at most {limits.max_bytes} bytes, got a larger one")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError("expected base64, got something else") from error
    return decoded(data, limits)


def decoded(data: bytes, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture's bytes.

    Args:
        data: a file's, whatever it is called.
        limits: of pixels.

    Raises:
        PictureError: no picture, too large, or several frames.
    """
    from PIL import Image as pil
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pil.open(io.BytesIO(data), formats=FORMATS) as found:
                if found.width * found.height > limits.max_pixels:
                    raise PictureError(f"expected at most {limits.max_pixels} pixels, got {found.width}x{found.height}")
                if getattr(found, "n_frames", 1) > 1:
                    raise PictureError(
                        f"expected one frame, got {getattr(found, 'n_frames', 1)}: only one is looked at"
                    )
                found.load()
                image = flattened(ImageOps.exif_transpose(found))
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("expected a PNG, JPEG, WebP or GIF picture, got none that can be read") from error
    except (OSError, ValueError, SyntaxError, pil.DecompressionBombError, MemoryError) as error:
        raise PictureError(f"expected a PNG, JPEG, WebP or GIF picture, got none that can be read ({error})") from error
    return DecodedPicture(image, written(image))


def flattened(image: Image) -> Image:
    """8-bit RGB, transparency on white."""
    from PIL import Image as pil

    if image.mode == "RGB":
        return pil.frombytes("RGB", image.size, image.tobytes())
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = pil.new("RGBA", over.size, (255, 255, 255, 255))
        return pil.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def written(image: Image) -> str:
    """A PNG of the pixels as a data URL."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
