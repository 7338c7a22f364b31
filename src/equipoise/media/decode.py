"""Picture files decoded as upright 8-bit RGB within limits, or refused with a one-line reason.

Every picture that comes from outside the process, from a file, a table, a URL or a request, passes through here.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from equipoise.errors import PictureError, os_reason
from equipoise.media.metadata import without_text

MAX_PIXELS: Final = 2**26
"""Larger pictures are refused before they are decoded: 64 megapixels take 0.8 GB as one float tensor."""

# A damaged file makes Pillow's decoders raise any of these, depending on where the damage lies.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
HEIF_SUFFIXES: Final = frozenset([".heic", ".heif", ".hif"])
_HEIF_BRANDS: Final = frozenset(
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"]
)
"""What a HEIF file says of itself in its bytes 8 to 12 (ISO/IEC 23008-12, annex B and section 10)."""
_TOO_MUCH_TEXT: Final = "MAX_TEXT"
"""In the message of Pillow about texts that are too large when unpacked."""
_SIXTEEN_BIT: Final = ("I;16", "I;16L", "I;16B", "I;16N")
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each orientation upright (CIPA DC-008, tag Orientation)."""
_LARGEST: Final = 2**16 - 1
"""Of 16 bits."""


@dataclass(frozen=True)
class DecodeLimits:
    """What a decoder accepts."""

    max_pixels: int = MAX_PIXELS
    """Width times height above which a picture is refused undecoded."""
    formats: tuple[str, ...] | None = None
    """Pillow's names of the accepted formats, such as `PNG`; None accepts all that Pillow reads.

    Few formats keep untrusted files away from decoders that are rarely used and rarely tested."""


def open_picture(path: str | Path, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """Read one still picture as 8-bit RGB, upright.

    EXIF orientation is applied. Transparent areas are put on white. Grey of 16 bits, and of the 12 bits of some TIFF
    files, is scaled, not clipped. Colour profiles are dropped and CMYK is converted without one, as the image
    processors of chat models do.

    Args:
        path: the file.
        limits: of its size and format.

    Raises:
        PictureError: the file is missing, empty, damaged, too large, animated, or no picture.
    """
    path = Path(path)
    # Before Pillow opens it: a pipe or a device would block, and an empty file has a message of its own.
    _require_content(path)
    return _decode(lambda: path.open("rb"), path, limits)


def decode_picture(data: bytes, name: str | Path, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """Read one still picture from a file's bytes, as `open_picture` does.

    Args:
        data: the file.
        name: what messages call it.
        limits: of its size and format.

    Raises:
        PictureError: it is empty, damaged, too large, animated, or no picture.
    """
    if not data:
        raise PictureError(f"expected a picture, got no bytes for {name}; try to copy it again")
    return _decode(lambda: io.BytesIO(data), name, limits)


def _decode(file: Callable[[], BinaryIO], name: str | Path, limits: DecodeLimits) -> Image.Image:
    """The picture in a file, which is opened afresh at each call of `file`."""
    try:
        if limits.formats is None:
            _register_heif(file, name)
        # Warnings concern metadata we drop, and the size, which is checked here. A stream and no path: Pillow would map
        # some files of TIFF into memory, and take their rows for columns where they have to be turned.
        with (
            warnings.catch_warnings(action="ignore"),
            file() as stream,
            Image.open(stream, formats=_openers(limits)) as opened,
        ):
            # `open` has read the header only: what is refused here was never decoded.
            _require_pixels(opened, name)
            _require_still(opened, name, limits)
            _require_size(opened.size, name, limits)
            _require_checksums(opened, file)
            return _as_rgb(upright(opened), opened, name)
    # Pillow's own limit, which `open` applies when it has read the header, so that it may come before ours.
    except Image.DecompressionBombError:
        raise PictureError(
            f"expected at most {limits.max_pixels:,} pixels, got far more in {name}; try a smaller copy"
        ) from None
    except UnidentifiedImageError:
        # `UnidentifiedImageError` is an `OSError`: it has to be caught before the damages.
        if _is_heif(file, name):
            raise PictureError(
                f"expected a picture that Pillow reads, got a HEIF file in {name}; "
                "try pip install pillow-heif, or a copy exported as JPEG"
            ) from None
        formats = ", ".join(limits.formats or ("PNG", "JPEG", "WebP", "TIFF"))
        raise PictureError(f"expected a picture, got something else in {name}; try a file of {formats}") from None
    except MemoryError:
        raise PictureError(
            f"expected a picture that fits into memory, got a larger one in {name}; try a smaller copy"
        ) from None
    except _DAMAGE as damage:
        reason = " ".join(str(damage).split()) or type(damage).__name__
        # The texts of drawing programs and wide colour profiles may be too large for Pillow, and are not wanted here.
        stripped = without_text(_content(file)) if _TOO_MUCH_TEXT in reason else None
        if stripped is not None:
            return _decode(lambda: io.BytesIO(stripped), name, limits)
        raise PictureError(
            f"expected a whole picture, got a damaged or truncated one in {name} ({reason}); "
            "try to copy or export it again"
        ) from None


def _content(file: Callable[[], BinaryIO]) -> bytes:
    # Opened afresh: the stream of the attempt that failed may stand anywhere.
    with file() as stream:
        return stream.read()


def _is_heif(file: Callable[[], BinaryIO], name: str | Path) -> bool:
    """Whether a file is what phones write, by its name or by its first bytes: the ending is often changed alone."""
    with file() as stream:
        head = stream.read(12)
    return Path(name).suffix.lower() in HEIF_SUFFIXES or (head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS)


def _register_heif(file: Callable[[], BinaryIO], name: str | Path) -> None:
    """Let Pillow read what phones write, where the package for it is installed."""
    if _is_heif(file, name) and importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()


def _openers(limits: DecodeLimits) -> tuple[str, ...] | None:
    """Pillow's openers of the accepted formats; an MPO file is opened as the JPEG that it begins with."""
    return None if limits.formats is None else tuple(name for name in limits.formats if name != "MPO")


def _require_content(path: Path) -> None:
    try:
        if path.is_dir():
            raise PictureError(f"expected a picture file, got the folder {path}; try a file inside it")
        if not path.exists():
            raise PictureError(f"expected a picture file, got no file at {path}; try to check the path")
        if not path.is_file():
            raise PictureError(f"expected a picture file, got a device or pipe at {path}; try a file on disk")
        if path.stat().st_size == 0:
            raise PictureError(f"expected a picture, got an empty file at {path}; try to copy it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise PictureError(
            f"expected a readable file, got '{os_reason(error)}' for {path}; try to check path and permissions"
        ) from None


def _require_checksums(opened: Image.Image, file: Callable[[], BinaryIO]) -> None:
    """Compare the checksum that PNG carries for every part, which decoding alone does not look at."""
    if opened.format == "PNG":
        # `verify` leaves a picture unusable, so that it needs a copy of its own.
        with file() as stream, Image.open(stream, formats=("PNG",)) as copy:
            copy.verify()


def _require_pixels(image: Image.Image, name: str | Path) -> None:
    # Pillow draws EPS by running another program (Ghostscript) on it. Stubs are formats of which it knows the beginning
    # only: drawings (WMF), and tables of measurements (HDF5, GRIB, BUFR).
    if image.format == "EPS" or isinstance(image, ImageFile.StubImageFile):
        raise PictureError(
            f"expected a picture of pixels, got a file of {image.format} in {name}; try a copy exported as PNG"
        )


def _require_still(image: Image.Image, name: str | Path, limits: DecodeLimits) -> None:
    # MPO is what phones and stereo cameras write: a still JPEG followed by previews or a second view. Pillow turns a
    # JPEG into one when it finds them, whatever formats were asked for.
    several_views = image.format == "MPO" and (limits.formats is None or "MPO" in limits.formats)
    if getattr(image, "is_animated", False) and not several_views:
        count = getattr(image, "n_frames", "several")
        raise PictureError(
            f"expected a still picture, got {count} frames or pages in {name}; try the first frame saved as PNG"
        )


def _require_size(size: tuple[int, int], name: str | Path, limits: DecodeLimits) -> None:
    width, height = size
    if min(width, height) < 1:
        raise PictureError(f"expected a picture, got {width} x {height} pixels in {name}; try another file")
    if width * height > limits.max_pixels:
        raise PictureError(
            f"expected at most {limits.max_pixels:,} pixels, got {width} x {height} = {width * height:,} in {name}; "
            "try a smaller copy"
        )


def upright(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says; as it is where that cannot be read, which says nothing of the pixels."""
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def with_alpha(image: Image.Image) -> Image.Image | None:
    """A picture of any mode as RGBA; None where nothing in it may be transparent."""
    if not image.has_transparency_data:
        return None
    if image.mode not in _SIXTEEN_BIT:
        return image.convert("RGBA")
    # The grey that stands for transparent is a 16-bit number, and scaled to 8 bits others would be equal to it.
    opaque = np.asarray(image) != image.info["transparency"]
    colours = _from_sixteen_bit(image).convert("RGBA")
    colours.putalpha(Image.fromarray((opaque * 255).astype(np.uint8)))
    return colours


def _as_rgb(image: Image.Image, opened: Image.Image, name: str | Path) -> Image.Image:
    """The upright picture of an opened file as 8-bit RGB."""
    transparent = with_alpha(image)
    if transparent is not None:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and opened.format in ("PNG", "PPM")):
        return _from_sixteen_bit(image, *_tiff_range(opened)).convert("RGB")
    if image.mode in ("I", "F"):
        raise PictureError(
            f"expected 8 or 16 bits per channel, got 32 bits of unknown range in {name}; try an 8-bit PNG"
        )
    image.load()
    # A copy without the file's metadata, whose orientation has been applied already.
    return Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())


def _tiff_range(opened: Image.Image) -> tuple[int, int]:
    """The values of black and white in a file with more than 8 bits of grey, which a TIFF alone states.

    Pillow returns such values of a TIFF as they are stored: those of 12 bits, and those where 0 is white (TIFF 6.0,
    tags BitsPerSample and PhotometricInterpretation).
    """
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return 0, _LARGEST
    largest = 2**12 - 1 if opened.tag_v2.get(ExifTags.Base.BitsPerSample) == (12,) else _LARGEST
    return (largest, 0) if opened.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == 0 else (0, largest)


def _from_sixteen_bit(image: Image.Image, black: int = 0, white: int = _LARGEST) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    # 65535 / 257 = 255 exactly, so that the full range stays the full range.
    return Image.fromarray(np.clip(np.rint((values - black) / ((white - black) / 255)), 0, 255).astype(np.uint8))
