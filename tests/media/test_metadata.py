"""Metadata is removed, and the coded pixels stay byte for byte."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from equipoise.media.metadata import without_metadata, without_text

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def file_of(form: str, **more: Any) -> bytes:
    file = io.BytesIO()
    NOISE.save(file, form, **more)
    return file.getvalue()


def with_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a secret"
    return exif


@pytest.mark.parametrize(
    ("form", "more"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"restart_marker_rows": 1}), ("PNG", {}), ("WEBP", {})],
)
def test_metadata_goes_and_pixels_stay(form: str, more: dict[str, Any]) -> None:
    plain = file_of(form, **more)
    assert without_metadata(plain, form) is plain
    full = file_of(form, exif=with_exif(), icc_profile=b"p" * 200, **more)
    stripped = without_metadata(full, form)
    assert stripped is not None
    assert b"a secret" not in stripped
    assert b"pppp" not in stripped
    opened = Image.open(io.BytesIO(stripped))
    assert np.array_equal(np.asarray(opened.convert("RGB")), np.asarray(Image.open(io.BytesIO(full)).convert("RGB")))
    if form != "WEBP":
        assert stripped == plain


def test_texts_and_what_follows_the_end_go() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a secret")
    assert without_metadata(file_of("PNG", pnginfo=info) + b"tail", "PNG") == file_of("PNG")
    assert without_metadata(file_of("JPEG", comment=b"a secret") + b"tail", "JPEG") == file_of("JPEG")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_not_followed(form: str) -> None:
    data = file_of(form)
    assert form == "WEBP" or without_metadata(data[: len(data) // 2], form) is None
    assert without_metadata(b"", form) is None


def test_texts_and_profile_of_a_png_go_and_the_rest_stays() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 1000, zip=True)
    info.add_itxt("note", "y")
    data = file_of("PNG", pnginfo=info, icc_profile=b"profile", dpi=(72, 72))
    assert without_text(data) == file_of("PNG", dpi=(72, 72))
    assert without_text(file_of("JPEG")) is None
    assert without_text(data[: len(data) // 2]) is None
