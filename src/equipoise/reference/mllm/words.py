"""Drawn English words: the list, its split, and lettering in several fonts, cases and sizes."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TEXTS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
TRAIN_WORDS: Final[tuple[str, ...]] = tuple(_TEXTS["train"].split())
"""Words that the model learns to read."""
HELD_OUT_WORDS: Final[tuple[str, ...]] = tuple(_TEXTS["held_out"].split())
"""Words that no training picture shows."""
FONTS: Final = (
    "default",
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono"),
    *("DejaVuSansMono-Bold", "STIXGeneral", "STIXGeneralBol", "cmss10", "cmr10"),
)
"""Pillow's own font and those that come with matplotlib."""
_DRAWN_SIZE: Final = 48
"""Size in points in which letters are drawn before they are scaled."""


@dataclass(frozen=True)
class WordStyle:
    """How a word is drawn into a row of the scene's grid."""

    font: str
    """One of `FONTS`."""
    case: str
    """`upper`, `lower` or `title`."""
    height: float
    """Of the letters as a share of the row of the grid; long words are made smaller to fit the width."""
    stretch: float
    """Width of the letters over their natural width."""
    sign: bool
    """Dark letters on a white sign; without it the letters stand on the picture itself."""
    ink: tuple[int, int, int]
    """Colour of the letters."""
    shift: float
    """Where the word stands in the room that its row leaves: -1 is left, 1 is right."""


@dataclass(frozen=True)
class LetterBox:
    """Where a letter of a drawn word is, in shares of the picture."""

    letter: str
    """Lower case."""
    left: float
    """Share of the width."""
    right: float
    """Share of the width."""
    top: float
    """Share of the height."""
    bottom: float
    """Share of the height."""


WORLD_STYLE: Final = WordStyle("default", "upper", 0.65, 1.5, sign=True, ink=(20, 20, 20), shift=0.0)
"""The signs of the world's own scenes."""


def sample_style(rng: np.random.Generator) -> WordStyle:
    """A way to draw a word at random.

    Args:
        rng: the only source of randomness.
    """
    if rng.random() < 0.3:
        return WORLD_STYLE
    sign = bool(rng.random() < 0.6)
    dark = sign or rng.random() < 0.7
    ink = tuple(int(value) for value in (rng.integers(0, 90, 3) if dark else rng.integers(0, 256, 3)))
    return WordStyle(
        font=str(rng.choice(FONTS)),
        case=str(rng.choice(["upper", "lower", "title"], p=[0.4, 0.4, 0.2])),
        height=float(rng.uniform(0.25, 0.75)),
        stretch=float(rng.uniform(0.9, 1.4)),
        sign=sign,
        ink=(ink[0], ink[1], ink[2]),
        shift=float(rng.uniform(-1, 1)),
    )


def draw_word(picture: Image.Image, word: str, row: int, style: WordStyle) -> list[LetterBox]:
    """Draw a word, in place, into one of the three rows of the grid.

    Args:
        picture: 8-bit RGB.
        word: one lower-case word.
        row: 0, 1 or 2.
        style: how.

    Returns:
        The box of every letter.
    """
    width, height = picture.size
    box = (width * 0.04, height * (row / 3 + 0.05), width * 0.96, height * ((row + 1) / 3 - 0.05))
    mask, edges = _lettering(style.font, _in_case(word, style.case))
    room = (box[2] - box[0]) * 0.92
    scale = min(height / 3 * style.height / mask.height, room / mask.width)
    stretch = min(style.stretch, room / (mask.width * scale))
    size = (max(1, round(mask.width * scale * stretch)), max(1, round(mask.height * scale)))
    left = round(box[0] + (box[2] - box[0] - size[0]) / 2 + style.shift * (room - size[0]) / 2)
    top = round((box[1] + box[3] - size[1]) / 2)
    if style.sign:
        pen = ImageDraw.Draw(picture)
        pen.rectangle([round(side) for side in box], fill=(255, 255, 255), outline=(60, 60, 60), width=2)
    letters = mask.resize(size, Image.Resampling.BILINEAR)
    if not style.sign:
        # A pale rim keeps letters readable on any ground.
        rim = letters.point(lambda value: min(255, value * 2))
        picture.paste((250, 250, 250), (left - 1, top - 1), rim)
        picture.paste((250, 250, 250), (left + 1, top + 1), rim)
    picture.paste(style.ink, (left, top), letters)
    return [
        LetterBox(
            letter,
            (left + start * size[0]) / width,
            (left + end * size[0]) / width,
            top / height,
            (top + size[1]) / height,
        )
        for letter, start, end in zip(word, edges, edges[1:], strict=False)
    ]


def _in_case(word: str, case: str) -> str:
    return {"upper": word.upper(), "lower": word.lower(), "title": word.title()}[case]


@lru_cache(maxsize=len(FONTS))
def _font(name: str) -> Any:
    if name == "default":
        return ImageFont.load_default(size=_DRAWN_SIZE)
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), _DRAWN_SIZE)


@lru_cache(maxsize=4096)
def _lettering(font_name: str, text: str) -> tuple[Image.Image, tuple[float, ...]]:
    """A tight mask of a text, and where its letters begin and end as shares of the width."""
    font = _font(font_name)
    left, top, right, bottom = font.getbbox(text)
    width, height = math.ceil(right - left) + 2, math.ceil(bottom - top) + 2
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, fill=255, font=font)
    edges = [(font.getlength(text[:count]) + 1 - left) / width for count in range(len(text) + 1)]
    return mask, tuple(min(1.0, max(0.0, edge)) for edge in edges)
