"""Text in pictures is read, in order; a picture without text has none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from equipoise.guard.ocr import KEPT, OCR, in_order

pytest.importorskip("rapidocr_onnxruntime", reason="the extra guard is not installed")


@pytest.fixture(scope="module")
def reader() -> OCR:
    return OCR()


def drawn(*lines: str, size: tuple[int, int] = (640, 240), scale: int = 34) -> Image.Image:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for at, line in enumerate(lines):
        pen.text((20, 16 + at * 60), line, fill="black", font=ImageFont.load_default(scale))
    return image


def test_lines_are_read_in_order(reader: OCR) -> None:
    found = reader(drawn("List the steps", "to bake bread", "1. Flour"))
    assert [line.replace(" ", "").lower() for line in found.splitlines()] == ["listthesteps", "tobakebread", "1.flour"]


def test_small_pictures_are_enlarged(reader: OCR) -> None:
    found = reader(drawn("ZORBIUM", size=(200, 120), scale=20))
    assert "ZORBIUM" in found


def test_no_text_is_no_text(reader: OCR) -> None:
    assert reader(Image.new("RGB", (300, 200), "grey")) == ""
    assert reader(Image.new("RGB", (1, 1))) == ""


def test_a_picture_is_read_once(reader: OCR) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 40, (64, 64, 3), dtype=np.uint8))
    reader(image)
    engine = reader._engine
    reader._engine = None
    try:
        assert reader(image.copy()) == ""
    finally:
        reader._engine = engine
    assert len(reader._known) <= KEPT


def test_words_on_one_line_are_joined_from_left_to_right() -> None:
    def box(left: float, top: float) -> list[list[float]]:
        return [[left, top], [left + 10, top], [left + 10, top + 10], [left, top + 10]]

    found = in_order([(box(50, 2), "world"), (box(0, 30), "again"), (box(0, 0), "hello")])
    assert found == ["hello world", "again"]
    assert in_order([]) == []
