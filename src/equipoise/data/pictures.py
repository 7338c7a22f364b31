"""Reading pictures: whatever people have, as 8-bit RGB, or a one-line reason why not."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from equipoise.errors import PictureError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

MAX_PIXELS = 2**26
"""Larger pictures are refused before they are decoded: 64 megapixels take 0.8 GB as one float tensor."""

SUFFIXES = frozenset(
    [".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
)
"""What counts as a picture inside a folder; a file that is named itself may end in anything."""

# A damaged file makes Pillow's decoders raise any of these, depending on where the damage lies.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def open_picture(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one still picture as 8-bit RGB, upright.

    EXIF orientation is applied. Transparent places are put on white. 16-bit grey is scaled (by 1/257), not
    clipped. Colour profiles are dropped and CMYK is converted without one, as the image processors of chat
    models do.

    Args:
        path: the file.
        max_pixels: width times height above which the file is refused undecoded.

    Raises:
        PictureError: the file is missing, empty, damaged, too large, animated, or no picture.
    """
    path = Path(path)
    _require_content(path)
    return _decoded(lambda: path, path, max_pixels)


def decode_picture(data: bytes, name: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read one still picture from a file's bytes, as `open_picture` does.

    Args:
        data: the file.
        name: what messages call it.
        max_pixels: width times height above which it is refused undecoded.

    Raises:
        PictureError: it is empty, damaged, too large, animated, or no picture.
    """
    if not data:
        raise PictureError(f"expected a picture, got no bytes for {name}; try to copy it again")
    return _decoded(lambda: io.BytesIO(data), Path(name), max_pixels)


def _decoded(file: Callable[[], Path | io.BytesIO], path: Path, max_pixels: int) -> Image.Image:
    """The picture in a file, which is opened afresh at each call of `file`."""
    try:
        # Warnings concern metadata we drop, and the size, which is checked here.
        with warnings.catch_warnings(action="ignore"), Image.open(file()) as opened:
            _require_still(opened, path)
            _require_size(opened.size, path, max_pixels)
            _require_checksums(opened, file)
            return _as_rgb(ImageOps.exif_transpose(opened), opened.format, path)
    except Image.DecompressionBombError:
        limit = f"at most {max_pixels:,} pixels"
        raise PictureError(f"expected {limit}, got far more in {path}; try a smaller copy") from None
    except UnidentifiedImageError:
        raise PictureError(
            f"expected a picture, got something else in {path}; try a PNG, JPEG, WebP or TIFF file"
        ) from None
    except _DAMAGE as damage:
        reason = " ".join(str(damage).split()) or type(damage).__name__
        raise PictureError(
            f"expected a whole picture, got a damaged or truncated one in {path} ({reason}); "
            "try to copy or export it again"
        ) from None


def find_pictures(paths: Sequence[str | Path]) -> list[Path]:
    """The picture files meant by some paths: a file means itself, a folder the pictures directly in it.

    Files are not opened, so one that is missing or damaged is only noticed by `open_picture`. The same file
    named twice counts once.

    Returns:
        Files sorted by name, no two with the same stem, which names the results.

    Raises:
        UsageError: no paths, a folder without pictures, or two files with one stem.
        PictureError: a folder that cannot be read.
    """
    if not paths:
        raise UsageError("expected at least one picture or folder, got none; try a PNG or JPEG file")
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for file in _in_folder(path) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    by_stem: dict[str, Path] = {}
    for file in found.values():
        # Some file systems ignore case, and the results must be able to lie on any.
        other = by_stem.setdefault(file.stem.casefold(), file)
        if other is not file:
            raise UsageError(
                f"expected pictures with different names, got {other} and {file}, whose results would "
                f"both be called {file.stem}.png; try to rename one"
            )
    return sorted(found.values(), key=lambda file: (file.name, str(file)))


def to_pixels(image: Image.Image) -> Tensor:
    """An 8-bit RGB picture as `3 x H x W` float32 in `[0, 1]`; `to_image` is the exact inverse."""
    import torch

    values = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.uint8))
    return values.permute(2, 0, 1).contiguous().float() / 255


def to_image(pixels: Tensor) -> Image.Image:
    """`3 x H x W` floats in `[0, 1]` as the nearest 8-bit RGB picture."""
    values = pixels.detach().float().mul(255).round().clamp(0, 255).byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


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
            f"expected a readable file, got '{error.strerror}' for {path}; try to check path and permissions"
        ) from None


def _require_checksums(opened: Image.Image, file: Callable[[], Path | io.BytesIO]) -> None:
    """PNG carries a checksum for every part, which decoding alone does not look at."""
    if opened.format == "PNG":
        with Image.open(file()) as again:
            again.verify()


def _require_still(image: Image.Image, path: Path) -> None:
    # MPO is what phones and stereo cameras write: a still JPEG followed by previews or a second view.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        count = getattr(image, "n_frames", "several")
        raise PictureError(
            f"expected a still picture, got {count} frames or pages in {path}; try the first frame saved as PNG"
        )


def _require_size(size: tuple[int, int], path: Path, max_pixels: int) -> None:
    width, height = size
    if min(width, height) < 1:
        raise PictureError(f"expected a picture, got {width} x {height} pixels in {path}; try another file")
    if width * height > max_pixels:
        raise PictureError(
            f"expected at most {max_pixels:,} pixels, got {width} x {height} = {width * height:,} in {path}; "
            "try a smaller copy"
        )


def _as_rgb(image: Image.Image, format: str | None, path: Path) -> Image.Image:
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and format in ("PNG", "PPM")):
        return _from_sixteen_bit(image).convert("RGB")
    if image.mode in ("I", "F"):
        raise PictureError(
            f"expected 8 or 16 bits per channel, got 32 bits of unknown range in {path}; try an 8-bit PNG"
        )
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    image.load()
    # A copy without the file's metadata, whose orientation has been applied already.
    return Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.clip(np.rint(values / 257), 0, 255).astype(np.uint8))


def _in_folder(folder: Path) -> list[Path]:
    try:
        files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and f.is_file()]
    except OSError as error:
        raise PictureError(
            f"expected a readable folder, got '{error.strerror}' for {folder}; try to check its permissions"
        ) from None
    files = [f for f in files if not f.name.startswith(".")]
    if not files:
        raise UsageError(f"expected a folder with pictures, got none directly in {folder}; try its subfolders or files")
    return files
