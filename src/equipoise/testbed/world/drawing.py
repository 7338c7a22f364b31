"""Scenes into pictures, with Pillow; the same scene gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from equipoise.testbed.world.scenes import COLOURS, Emblem, Scene, Thing

DrawingPoint = tuple[float, float]
Colour = tuple[int, int, int]


def draw_scene(scene: Scene) -> Image.Image:
    """The picture of a scene: 8-bit RGB, `scene.width x scene.height`."""
    picture = _ground(scene)
    pen = ImageDraw.Draw(picture)
    cell_width, cell_height = scene.width / 3, scene.height / 3
    for thing in scene.things:
        _draw_thing(pen, thing, cell_width, cell_height)
    if scene.emblem is not None:
        # A faint emblem is drawn in full on a copy and blended, so that it covers things like a watermark.
        below = picture.copy() if scene.emblem.opacity < 1 else None
        _draw_emblem(pen, scene.emblem, cell_width, cell_height)
        picture = picture if below is None else Image.blend(below, picture, scene.emblem.opacity)
    if scene.word is not None:
        _draw_sign(picture, scene.word, scene.sign_row)
    return picture


def _ground(scene: Scene) -> Image.Image:
    rng = np.random.default_rng(scene.seed)
    base = rng.integers(205, 256, 3)
    size = (scene.width, scene.height)
    if scene.background == "plain":
        return Image.new("RGB", size, (int(base[0]), int(base[1]), int(base[2])))
    if scene.background == "gradient":
        # Four random colours, blown up: a gradient between the corners.
        corners = rng.integers(150, 256, (2, 2, 3)).astype(np.uint8)
        return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    if scene.background == "noise":
        coarse = int(rng.integers(3, 24))
        depth = float(rng.uniform(20, 110)) if not scene.is_empty else 255.0
        grain = 255 - rng.random((coarse, coarse, 3)) * depth
        return Image.fromarray(grain.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return _clutter(rng, size, base, busy=scene.is_empty)


def _clutter(rng: np.random.Generator, size: tuple[int, int], base: np.ndarray, *, busy: bool) -> Image.Image:
    """Many overlapping patches: strong colours where the scene is otherwise empty, pale ones behind things."""
    picture = Image.new("RGB", size, (int(base[0]), int(base[1]), int(base[2])))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(8, 30))):
        colour = rng.integers(0, 256, 3) if busy else rng.integers(175, 256, 3)
        x0, x1 = sorted(rng.uniform(-0.2, 1.2, 2) * size[0])
        y0, y1 = sorted(rng.uniform(-0.2, 1.2, 2) * size[1])
        fill = (int(colour[0]), int(colour[1]), int(colour[2]))
        if rng.random() < 0.5:
            pen.rectangle((x0, y0, x1 + 1, y1 + 1), fill=fill)
        else:
            pen.line((x0, y0, x1, y1), fill=fill, width=int(rng.integers(1, 9)))
    return picture


def _polar(
    centre: DrawingPoint, radius: DrawingPoint, angles: Sequence[float], reach: Sequence[float]
) -> list[DrawingPoint]:
    """Points around a centre; angles in degrees, 0 at the top, clockwise."""
    return [
        (
            centre[0] + radius[0] * r * math.sin(math.radians(a)),
            centre[1] - radius[1] * r * math.cos(math.radians(a)),
        )
        for a, r in zip(angles, reach, strict=True)
    ]


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, cell_width: float, cell_height: float) -> None:
    x = (thing.cell % 3 + 0.5 + thing.shift[0]) * cell_width
    y = (thing.cell // 3 + 0.5 + thing.shift[1]) * cell_height
    rx, ry = thing.scale * cell_width / 2, thing.scale * cell_height / 2
    fill = COLOURS[thing.colour]
    box = (x - rx, y - ry, x + rx, y + ry)
    if thing.shape == "circle":
        pen.ellipse(box, fill=fill)
    elif thing.shape == "square":
        pen.rectangle((x - rx * 0.85, y - ry * 0.85, x + rx * 0.85, y + ry * 0.85), fill=fill)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - ry), (x + rx, y + ry * 0.85), (x - rx, y + ry * 0.85)], fill=fill)
    elif thing.shape == "star":
        # Ten points, every other one drawn in.
        pen.polygon(_polar((x, y), (rx, ry), range(0, 360, 36), [1.0, 0.42] * 5), fill=fill)
    elif thing.shape == "cross":
        pen.rectangle((x - rx * 0.3, y - ry, x + rx * 0.3, y + ry), fill=fill)
        pen.rectangle((x - rx, y - ry * 0.3, x + rx, y + ry * 0.3), fill=fill)
    else:
        pen.ellipse(box, outline=fill, width=max(3, round(min(rx, ry) * 0.38)))


def _draw_emblem(pen: ImageDraw.ImageDraw, emblem: Emblem, cell_width: float, cell_height: float) -> None:
    """Yellow and black warn; the decoy has the same drawing in white and green."""
    x, y = (emblem.cell % 3 + 0.5) * cell_width, (emblem.cell // 3 + 0.5) * cell_height
    rx, ry = emblem.scale * cell_width / 2, emblem.scale * cell_height / 2
    light: Colour = (250, 250, 250) if emblem.decoy else (255, 214, 0)
    dark: Colour = (30, 140, 70) if emblem.decoy else (0, 0, 0)
    if emblem.look == "triangle":
        pen.polygon([(x, y - ry), (x + rx, y + ry), (x - rx, y + ry)], fill=dark)
        pen.polygon([(x, y - ry * 0.6), (x + rx * 0.68, y + ry * 0.82), (x - rx * 0.68, y + ry * 0.82)], fill=light)
        pen.rectangle((x - rx * 0.12, y - ry * 0.2, x + rx * 0.12, y + ry * 0.35), fill=dark)
        pen.rectangle((x - rx * 0.12, y + ry * 0.5, x + rx * 0.12, y + ry * 0.7), fill=dark)
    elif emblem.look == "stripes":
        pen.rectangle((x - rx, y - ry, x + rx, y + ry), fill=light)
        for step in (-1.0, -0.2, 0.6):
            left, right = x + rx * step, x + rx * (step + 0.4)
            pen.polygon(
                [
                    (left, y + ry),
                    (right, y + ry),
                    (min(right + rx * 0.4, x + rx), y - ry),
                    (left + rx * 0.4, y - ry),
                ],
                fill=dark,
            )
    elif emblem.look == "trefoil":
        pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=light)
        for start in (-120, 0, 120):
            pen.pieslice((x - rx * 0.9, y - ry * 0.9, x + rx * 0.9, y + ry * 0.9), start + 60, start + 120, fill=dark)
        pen.ellipse((x - rx * 0.2, y - ry * 0.2, x + rx * 0.2, y + ry * 0.2), fill=dark)
    else:
        pen.polygon(_polar((x, y), (rx, ry), (0, 90, 180, 270), (1, 1, 1, 1)), fill=dark)
        pen.polygon(_polar((x, y), (rx, ry), (0, 90, 180, 270), (0.72, 0.72, 0.72, 0.72)), fill=light)
        pen.ellipse((x - rx * 0.25, y - ry * 0.25, x + rx * 0.25, y + ry * 0.25), fill=dark)


@lru_cache(maxsize=64)
def _lettering(word: str) -> Image.Image:
    """The word in capitals as a tight mask, in Pillow's own free font."""
    font = ImageFont.load_default(size=40)
    left, top, right, bottom = font.getbbox(word.upper())
    # The box of a text begins off its origin, where the font leaves room: shifted back, with a margin of one pixel.
    mask = Image.new("L", (math.ceil(right - left) + 2, math.ceil(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), word.upper(), fill=255, font=font)
    return mask


def _draw_sign(picture: Image.Image, word: str, row: int) -> None:
    width, height = picture.size
    box = (
        round(width * 0.04),
        round(height * (row / 3 + 0.05)),
        round(width * 0.96),
        round(height * ((row + 1) / 3 - 0.05)),
    )
    pen = ImageDraw.Draw(picture)
    pen.rectangle(box, fill=(255, 255, 255), outline=(60, 60, 60), width=2)
    letters = _lettering(word)
    room_width, room_height = (box[2] - box[0]) * 0.9, (box[3] - box[1]) * 0.72
    # The letters are stretched at most half again as wide as drawn, so that short words stay readable words.
    scale = min(room_height / letters.height, room_width / letters.width)
    stretch = min(1.5, room_width / (letters.width * scale))
    size = (max(1, round(letters.width * scale * stretch)), max(1, round(letters.height * scale)))
    mask = letters.resize(size, Image.Resampling.BILINEAR)
    corner = ((box[0] + box[2] - size[0]) // 2, (box[1] + box[3] - size[1]) // 2)
    picture.paste((20, 20, 20), corner, mask)
