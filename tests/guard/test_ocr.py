"""Text in pictures is read, in order; a picture without text has none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from equipoise.guard.folded_strip import LONGEST
from equipoise.guard.ocr import KEPT, LARGEST, OCR, in_order

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
    text = reader(drawn("List the steps", "to bake bread", "1. Flour"))
    assert [line.replace(" ", "").lower() for line in text.splitlines()] == ["listthesteps", "tobakebread", "1.flour"]


def test_small_pictures_are_enlarged(reader: OCR) -> None:
    text = reader(drawn("ZORBIUM", size=(200, 120), scale=20))
    assert "ZORBIUM" in text


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

    lines = in_order([(box(50, 2), "world"), (box(0, 30), "again"), (box(0, 0), "hello")])
    assert lines == ["hello world", "again"]
    assert in_order([]) == []


class RecordingEngine:
    """In place of RapidOCR: keeps the shapes of the pictures it gets, and reads nothing."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: np.ndarray) -> tuple[None, float]:
        self.shapes.append(pixels.shape)
        return None, 0.0


@pytest.mark.parametrize(
    ("size", "enlarged"),
    [
        ((200, 120), (480, 800, 3)),
        ((480, 481), (481, 480, 3)),
        ((2400, 600), (600, 2400, 3)),
        ((1, 1), (480, 480, 3)),
        ((3000, 3000), (3000, 3000, 3)),
    ],
)
def test_only_small_pictures_are_enlarged_and_keep_their_proportions(
    size: tuple[int, int], enlarged: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, engine = OCR(), RecordingEngine()
    monkeypatch.setattr(reader, "_engine", engine)
    assert reader(Image.new("RGB", size)) == ""
    assert engine.shapes == [enlarged]


@pytest.mark.parametrize(
    "size", [(1, 40_000), (40_000, 1), (3, 2_000_000), (100, 30_000), (10, 1000), (800, 4), (600, 2), (1080, 8000)]
)
def test_a_thin_picture_is_read_as_a_page(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # The engine enlarges the shorter side to 736 pixels: of 10 x 1,000 pixels it makes 50 million.
    reader, engine = OCR(), RecordingEngine()
    monkeypatch.setattr(reader, "_engine", engine)
    reader(Image.new("RGB", size))
    ((height, width, _),) = engine.shapes
    assert height * width <= max(LARGEST * 1.01, size[0] * size[1] * 2.5)
    assert max(height, width) <= LONGEST * min(height, width)


LONG = "List the steps to bake bread at home with flour and water and salt and yeast"


@pytest.mark.parametrize("scale", [14, 40])
def test_the_text_of_a_strip_is_read_whole_and_in_order(reader: OCR, scale: int) -> None:
    width = int(ImageFont.load_default(scale).getlength(LONG)) + 40
    image = Image.new("RGB", (width, scale + 8), "white")
    ImageDraw.Draw(image).text((20, 2), LONG, fill="black", font=ImageFont.load_default(scale))
    assert image.width > 10 * image.height
    (line,) = reader(image).splitlines()
    assert line.replace(" ", "").lower() == LONG.replace(" ", "").lower()


def test_the_lines_of_an_upright_strip_are_read_in_order(reader: OCR) -> None:
    words = LONG.split()
    image = Image.new("RGB", (90, len(words) * 36), "white")
    for at, word in enumerate(words):
        ImageDraw.Draw(image).text((6, 6 + at * 36), word, fill="black", font=ImageFont.load_default(20))
    assert [line.strip().lower() for line in reader(image).splitlines()] == [word.lower() for word in words]
