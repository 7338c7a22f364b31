"""What the upstream sees is what was looked at; what cannot be looked at is an error, with limits first."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise.errors import PictureError
from equipoise.guard.gateway.picture_decoding import decode_picture_url
from equipoise.guard.policy import PicturePolicy

LIMITS = PicturePolicy(max_bytes=200_000, max_pixels=40_000)


def url(image: Image.Image, kind: str = "PNG", **more: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_picture_that_is_passed_on_is_the_one_that_was_looked_at(kind: str) -> None:
    seen = decode_picture_url(url(picture(), kind), LIMITS)
    again = decode_picture_url(seen.url, LIMITS)
    assert seen.image.mode == "RGB"
    assert np.array_equal(np.asarray(seen.image), np.asarray(again.image))
    assert again.url == seen.url
    if kind == "PNG":
        assert np.array_equal(np.asarray(seen.image), np.asarray(picture()))


def test_it_is_turned_as_its_exif_says_and_the_exif_is_dropped() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    seen = decode_picture_url(url(picture(), "JPEG", exif=exif, quality=95), LIMITS)
    assert seen.image.size == (20, 30)
    assert b"where I live" not in base64.b64decode(seen.url.partition(",")[2])
    assert not Image.open(io.BytesIO(base64.b64decode(seen.url.partition(",")[2]))).getexif()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image = clear.convert(mode) if mode != "P" else clear.quantize(4)
    assert decode_picture_url(url(image), LIMITS).image.getpixel((3, 3)) == (255, 255, 255)


def test_several_frames_are_not_looked_at() -> None:
    frames = [picture(), picture((30, 20)).rotate(90)]
    with pytest.raises(PictureError, match="a still picture, got 2 frames"):
        decode_picture_url(url(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMITS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("https://example.com/cat.png", "data URL"),
        ("file:///etc/passwd", "data URL"),
        ("data:image/png;base64,!!!!", "base64"),
        ("data:image/png;base64,AAAA", "got something else"),
        ("data:image/png,plain", "data URL"),
        ("data:text/html;base64,PGI+", "data URL"),
        ("", "data URL"),
        ("data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode(), "got something else"),
        ("data:image/png;base64," + "A" * 400_000, "at most 200000 bytes"),
    ],
)
def test_what_is_no_picture_is_one_error(given: str, says: str) -> None:
    with pytest.raises(PictureError, match=says):
        decode_picture_url(given, LIMITS)


def test_too_many_pixels_are_not_decoded() -> None:
    with pytest.raises(PictureError, match="pixels"):
        decode_picture_url(url(Image.new("RGB", (300, 300))), LIMITS)
    with pytest.raises(PictureError):
        decode_picture_url(url(Image.new("1", (20_000, 20_000))), PicturePolicy(max_pixels=10_000_000))


def test_half_a_picture_is_no_picture() -> None:
    head, data = url(picture((100, 100))).split(",")
    # A multiple of four, so that the base64 itself is whole.
    with pytest.raises(PictureError, match="damaged or truncated"):
        decode_picture_url(f"{head},{data[: len(data) // 8 * 4]}", LIMITS)
