"""Pictures of a run as small copies inside the page, within a limit of bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from equipoise.errors import PictureError
from equipoise.media.decode import open_picture
from equipoise.report.pictures import data_uri, difference_uri

SIDE: Final = 320
"""Longest side of a copy, in pixels."""
SMALL: Final = 160
"""A picture this small is shown enlarged, pixel by pixel."""
LIMIT: Final = 6_000_000
"""Default limit on the characters of all copies together."""


@dataclass(frozen=True)
class EmbeddedImage:
    """A picture on the page, or why it is not there."""

    uri: str | None
    """For `src`; None where it is not shown."""
    words: str
    """Alternative text."""
    small: bool = False
    """Whether its single pixels are shown."""
    alt: str = ""
    """What stands in its place, where that is more than `words`."""


@dataclass
class ImageStore:
    """Makes copies until the page is full."""

    folder: Path
    """Where the pictures are: `pictures/` of the run folder."""
    limit: int = LIMIT
    """Characters of all copies together."""
    left_out: int = 0
    """Copies that found no room."""
    _used: int = field(default=0, init=False)

    def copy(self, name: str, words: str, alt: str = "") -> EmbeddedImage:
        """A copy of one picture."""
        image = self._open(name)
        if image is None:
            return EmbeddedImage(None, f"{words}: not readable")
        return self._kept(data_uri(_reduced(image, Image.Resampling.LANCZOS)), words, image, alt)

    def change(self, before: str, after: str, words: str, alt: str = "") -> EmbeddedImage:
        """The amplified difference of two pictures."""
        first, second = self._open(before), self._open(after)
        if first is None or second is None or first.size != second.size:
            return EmbeddedImage(None, f"{words}: not comparable")
        # Picked, not averaged: averaging would hide fine noise.
        reduced = [_reduced(image, Image.Resampling.NEAREST) for image in (first, second)]
        return self._kept(difference_uri(*reduced), words, first, alt)

    def _kept(self, uri: str, words: str, image: Image.Image, alt: str) -> EmbeddedImage:
        # The page is one file that people mail around. A picture that does not fit is left out in favour of later,
        # smaller ones; the page says how many there were.
        if self._used + len(uri) > self.limit:
            self.left_out += 1
            return EmbeddedImage(None, f"{words}: left out, as the page has no more room for pictures")
        self._used += len(uri)
        return EmbeddedImage(uri, words, max(image.size) <= SMALL, alt)

    def _open(self, name: str) -> Image.Image | None:
        # The name comes from a file: it may not lead out of the folder.
        if not name or Path(name).name != name or "\0" in name:
            return None
        try:
            return open_picture(self.folder / name)
        except PictureError:
            return None


def _reduced(image: Image.Image, resample: Image.Resampling) -> Image.Image:
    scale = SIDE / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), resample)
