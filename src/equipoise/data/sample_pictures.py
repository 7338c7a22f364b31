"""Pictures of samples, stored in a file or generated, and samples whose picture is missing or unreadable."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from PIL.Image import Image

from equipoise.errors import PictureError, os_reason
from equipoise.media.decode import decode_picture, open_picture
from equipoise.media.encode import png_bytes, read_data_url
from equipoise.types import Picture, Sample

EMBEDDED: Final = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/\s]{60,}={0,2}\Z")
"""How a PNG, JPEG, GIF or WebP file begins in base64, in a cell that holds nothing else."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture in a file, read when it is needed."""

    path: Path
    """The file."""

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, read once."""
        return hashlib.sha256(self.data()).hexdigest()

    def data(self) -> bytes:
        """The file as it is.

        Raises:
            PictureError: it cannot be read.
        """
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise PictureError(
                f"expected a picture at {self.path}, got '{os_reason(error)}'; try to check path and permissions"
            ) from None

    def open(self) -> Image:
        """The decoded 8-bit RGB picture.

        Raises:
            PictureError: it is missing, damaged, too large, animated, or no picture.
        """
        return open_picture(self.path)


@dataclass(frozen=True)
class GeneratedPicture:
    """A picture without a file of its own: drawn, or embedded in a cell of a table."""

    content: bytes
    """A PNG, JPEG or other picture file."""

    @classmethod
    def of(cls, image: Image) -> GeneratedPicture:
        """A drawing, as lossless PNG."""
        return cls(png_bytes(image.convert("RGB")))

    @cached_property
    def sha256(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.content).hexdigest()

    def data(self) -> bytes:
        """The bytes."""
        return self.content

    def open(self) -> Image:
        """The decoded 8-bit RGB picture.

        Raises:
            PictureError: the bytes are damaged, or no picture.
        """
        return decode_picture(self.content, "an embedded picture")


def attach(sample: Sample, folder: Path, *names: Any, within: Sequence[str] = ("",)) -> Sample:
    """The sample with its pictures, or with the reason why it cannot be evaluated in `problem`.

    Args:
        sample: the sample without pictures.
        folder: that pictures must lie in; a name that leads out of it (`../x.png`, `/x.png`) is never opened, as the
            table may come from somebody else. A link inside the folder is followed: data sets from a hub are links.
        names: file names relative to the folder, or whole ones inside of it; a file's bytes, plain, as
            `{"bytes": ..., "path": ...}`, in base64 or as a data URI. An address is never downloaded.
        within: sub-folders in which a file may also lie, in order.
    """
    pictures: list[Picture] = []
    # All or none: a prompt about two pictures with one of them would be another prompt.
    for name in names:
        picture = _find(folder, name, within)
        if isinstance(picture, str):
            return replace(sample, pictures=(), problem=picture)
        pictures.append(picture)
    return replace(sample, pictures=tuple(pictures))


def check_pictures(samples: Iterable[Sample]) -> list[Sample]:
    """Decode every picture once; a sample with an unreadable one gets the error as its `problem`, and no pictures."""
    errors: dict[object, str | None] = {}
    checked: list[Sample] = []
    for sample in samples:
        reasons = [_read_error(picture, errors) for picture in sample.pictures]
        reason = next(filter(None, reasons), None)
        checked.append(replace(sample, pictures=(), problem=reason) if reason else sample)
    return checked


def _read_error(picture: Picture, errors: dict[object, str | None]) -> str | None:
    """Why a picture cannot be read, else None; `errors` caches the result by file or hash."""
    key = picture.path if isinstance(picture, StoredPicture) else picture.sha256
    if key not in errors:
        try:
            picture.open()
            errors[key] = None
        except PictureError as error:
            errors[key] = f"picture cannot be read: {error}"
    return errors[key]


def _find(folder: Path, name: Any, within: Sequence[str]) -> Picture | str:
    """The picture of a cell of a table, or the reason why there is none."""
    if isinstance(name, Mapping):
        name = name.get("bytes") or name.get("path")
    if isinstance(name, bytes):
        return GeneratedPicture(name)
    if not isinstance(name, str) or not name.strip():
        return "the name of its picture is missing"
    name = name.strip()
    if name.startswith("data:") or EMBEDDED.match(name):
        try:
            url = name if name.startswith("data:") else f"data:image/png;base64,{name}"
            return GeneratedPicture(read_data_url("".join(url.split())))
        except PictureError:
            return f"picture {name[:40]}... is no picture in base64"
    if re.match(r"(?i)(?:https?|ftp|s3|gs|hf)://", name):
        return f"picture {name[:120]} is an address, and nothing is downloaded; try a file in the suite's folder"
    # Tables written on Windows name `images\1.jpg`.
    # Normalised before it is checked: `a/../../x` leads out although it does not begin with `..`. The second character
    # is a colon in a drive's name, such as `C:`.
    plain = posixpath.normpath(unquote(name[7:]) if name.startswith("file://") else name.replace("\\", "/"))
    if posixpath.isabs(plain) and Path(plain).is_relative_to(folder.absolute()):
        # A table that was written on this machine: the same file by its whole path.
        plain = Path(plain).relative_to(folder.absolute()).as_posix()
    if plain.startswith(("/", "../")) or plain == ".." or plain[1:2] == ":" or "\0" in plain:
        return f"picture {name} lies outside the suite's folder"
    for subfolder in within:
        path = folder / subfolder / plain
        try:
            if path.is_file():
                return StoredPicture(path)
        except OSError as error:
            return f"picture {plain[:80]} cannot be read: {os_reason(error)}"
    return f"picture {plain} is missing"
