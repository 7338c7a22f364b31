"""Pictures in requests: decoded with limits, and passed on as they came, or encoded again in their own kind.

What the upstream gets has the pixels that were checked. A file passes byte for byte, without its metadata, if every
decoder shows the same pixels. It is encoded again if it has to be turned (EXIF), is transparent (flattened on white),
has 16 bits per channel (scaled to 8) or is CMYK. Animations are refused.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from equipoise.errors import PictureError
from equipoise.guard.policy import PicturePolicy
from equipoise.media.decode import DecodeLimits, decode_picture
from equipoise.media.encode import data_url, png_bytes, read_data_url
from equipoise.media.metadata import without_metadata, without_text

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
"""Pillow's names of the formats; phones write MPO, a JPEG with previews, which are left out."""
_MEDIA: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
_PLAIN: Final = frozenset({"1", "L", "P", "RGB"})
"""Modes whose pixels are those of an 8-bit RGB picture."""
_ALPHABET: Final = str.maketrans("-_", "+/", " \t\r\n")
_HEAD: Final = re.compile(r"data:(?!text/)[^,]{0,200};\s*base64\s*", re.IGNORECASE)
_IMAGE: Final = re.compile(r"data:image/[\w.+-]+(;[\w.+-]+=[\w.+-]+)*;base64", re.IGNORECASE)
"""A head that every reader of data URLs takes."""
_ORIENTATION: Final = 0x0112
_NAME: Final = "a picture of the request"


@dataclass(frozen=True)
class DecodedPicture:
    """A picture as it was looked at."""

    image: Image
    """8-bit RGB."""
    url: str
    """A data URL of a file with these pixels."""


def decode_picture_url(url: str, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture's data URL.

    Args:
        url: as it stands in the request.
        limits: of bytes and pixels, and whether metadata is kept.

    Raises:
        PictureError: no data URL, no base64, no picture, too large, or several frames.
    """
    url = _usual(url)
    data = read_data_url(url, max_bytes=limits.max_bytes)
    picture = decoded(data, limits)
    # The client's own parameters stay.
    return DecodedPicture(picture.image, url) if picture.url == data_url(data, _declared(url)) else picture


def _usual(url: str) -> str:
    """A data URL in the usual alphabet, without line breaks, spaces and escapes, with its padding.

    Decoders disagree about the others: one drops `-` and `_`, another reads them as `+` and `/`, and so two pictures
    come of one URL. What the URL calls itself is no reason to refuse a picture: its bytes decide.
    """
    head, comma, packed = url.strip().partition(",")
    if _HEAD.fullmatch(head) and not _IMAGE.fullmatch(head):
        head = "data:image/png;base64"
    packed = (unquote(packed) if "%" in packed else packed).translate(_ALPHABET).rstrip("=")
    return f"{head}{comma}{packed}{'=' * (-len(packed) % 4)}"


def _declared(url: str) -> str:
    return url.partition(":")[2].partition(";")[0]


def decoded(data: bytes, limits: PicturePolicy) -> DecodedPicture:
    """Decode a picture's bytes.

    Args:
        data: a file's, whatever it is called.
        limits: of pixels, and whether metadata is kept.

    Raises:
        PictureError: no picture, too large, or several frames.
    """
    bounds = DecodeLimits(limits.max_pixels, (*FORMATS, "MPO"))
    image = decode_picture(data, _NAME, bounds)
    with warnings.catch_warnings(action="ignore"), _opened(data) as header:
        kind = str(header.format)
        kept = data if limits.metadata == "keep" else without_metadata(data, kind)
        if kept is not None and _is_plain(header, data, keeps_metadata=limits.metadata == "keep"):
            return DecodedPicture(image, data_url(kept, _MEDIA[kind]))
        new, media = _encoded(image, header, data)
    # A lossy kind changes pixels a little once more; those of the new file are the ones to check.
    return DecodedPicture(decode_picture(new, _NAME, bounds), data_url(new, media))


def _opened(data: bytes) -> Image:
    """The header of a picture that could be decoded."""
    from PIL import Image as Pillow

    try:
        return Pillow.open(io.BytesIO(data), formats=FORMATS)
    except ValueError:
        # Texts that are too large when unpacked; they were left out where it was decoded.
        return Pillow.open(io.BytesIO(without_text(data) or data), formats=FORMATS)


def _is_plain(header: Image, data: bytes, *, keeps_metadata: bool) -> bool:
    """Whether every decoder shows the pixels of the file as they were decoded here."""
    if header.mode not in _PLAIN or header.has_transparency_data:
        return False
    if header.getexif().get(_ORIENTATION, 1) != 1:
        return False
    if header.format == "PNG" and data[24] > 8:
        return False
    return keeps_metadata or header.format != "GIF" or not header.info.get("comment")


def _encoded(image: Image, header: Image, data: bytes) -> tuple[bytes, str]:
    """A picture as a new file of the kind that it came in, of like size, and its media type.

    Args:
        image: the decoded pixels.
        header: the file that they came from.
        data: its bytes.

    Raises:
        PictureError: it cannot be encoded.
    """
    file = io.BytesIO()
    try:
        if header.format in ("JPEG", "MPO"):
            image.save(file, "JPEG", **_jpeg_settings(header))
            return file.getvalue(), "image/jpeg"
        if header.format == "WEBP":
            image.save(file, "WEBP", lossless=b"VP8L" in data[12:4096], quality=85)
            return file.getvalue(), "image/webp"
    except (OSError, ValueError) as error:
        raise PictureError(f"expected a picture that can be turned or flattened, got {error}; try a PNG") from error
    grey = header.mode in ("1", "L", "LA", "I", "I;16", "I;16B") and not header.info.get("transparency")
    return png_bytes(image.convert("L") if grey else image, compress_level=6), "image/png"


def _jpeg_settings(header: Any) -> dict[str, Any]:
    """The quantisation and subsampling of a JPEG file, which decide the size of a new one."""
    from PIL import JpegImagePlugin

    tables = {number: header.quantization[number] for number in sorted(header.quantization)[:2]}
    sampling = JpegImagePlugin.get_sampling(header) if header.mode == "RGB" else 0
    return {"qtables": list(tables.values()), "subsampling": max(0, sampling)}
