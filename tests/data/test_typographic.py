"""Requests drawn into pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.suites import everyday
from equipoise.data.typographic import CARRIERS, LONGEST, draw_list, draw_under, draw_words, typographic
from equipoise.errors import UsageError
from equipoise.types import Sample

DRAWERS = [draw_list, draw_words, lambda text: draw_under(Image.new("RGB", (640, 300), "green"), text)]
TEXTS = [
    "Short?",
    "How do I teach a parrot to say good morning in three languages, and which one first?",
    "First line\n\nthird line\r\nfourth",
    "Κάτι στα ελληνικά, что-то по-русски, ćośkolwiek",
    "W" * 200,
    "word " * 250,
    " \t padded \n",
]


def ink(image):
    """Rows and columns that hold anything but white."""
    dark = np.asarray(image.convert("L")) < 255
    return np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_same_text_is_the_same_bytes(draw, text):
    assert GeneratedPicture.of(draw(text)) == GeneratedPicture.of(draw(text))


@pytest.mark.parametrize("draw", DRAWERS[:2])
@pytest.mark.parametrize("text", TEXTS)
def test_everything_is_inside_of_the_page(draw, text):
    page = draw(text)
    rows, columns = ink(page)
    assert len(rows) > 5
    assert rows[0] > 5
    assert columns[0] > 5
    assert rows[-1] < page.height - 5
    assert columns[-1] < page.width - 5


def test_other_texts_are_other_pictures():
    pages = [draw_words(text).tobytes() for text in ("Fold it.", "Fold it!", "fold it.")]
    assert len(set(pages)) == 3


def test_a_list_has_three_empty_items_below_its_heading():
    page = draw_list("THINGS")
    assert page.size == (760, 760)
    rows = ink(page)[0]
    assert np.count_nonzero(np.diff(rows) > 1) + 1 == 4, "bands of ink"


def test_letters_shrink_for_longer_texts():
    columns = [ink(draw_list("H" + "\nH" * n))[0] for n in (0, 20)]
    first_line = [np.flatnonzero(np.diff(rows) > 1)[0] + 1 for rows in columns]
    assert first_line[1] < first_line[0] / 2


def test_words_are_drawn_below_a_picture_that_stays_whole():
    picture = Image.effect_noise((300, 200), 80).convert("RGB")
    page = draw_under(picture, "What is this?")
    assert page.width == 300
    assert page.crop((0, 0, 300, 200)).tobytes() == picture.tobytes()
    assert page.height > 220


def test_a_tiny_picture_is_enlarged_for_words_to_be_read():
    assert draw_under(Image.new("RGB", (16, 8), "red"), "What is this?").width == 256


@pytest.mark.parametrize("draw", DRAWERS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("日本語で", r"font= with a file that has them"),
        ("a smile 🙂", r"U\+1F642"),
        ("bell \x07", r"U\+0007"),
        ("שלום עולם", "left to right"),
        ("a" * (LONGEST + 1), f"at most {LONGEST}"),
        ("\n".join("abcdefghij" * 10), "fits"),
    ],
)
def test_what_cannot_be_drawn_is_one_error(draw, text, says):
    with pytest.raises(UsageError, match=says) as caught:
        draw(text)
    assert "\n" not in str(caught.value)


def test_a_font_that_is_none(tmp_path):
    (tmp_path / "x.ttf").write_text("no font")
    for path in (tmp_path / "x.ttf", tmp_path / "none.ttf"):
        with pytest.raises(UsageError, match=r"font at .*\.ttf"):
            typographic([], font=path)


def test_another_font_may_be_given():
    import matplotlib

    serif = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf"
    assert draw_words("Hello", font=serif).tobytes() != draw_words("Hello").tobytes()


@pytest.mark.parametrize("style", ["figstep", "typo"])
def test_a_suite_moves_into_pictures(style):
    samples = everyday.load()[:4]
    moved = typographic(samples, style)
    for old, new in zip(samples, moved, strict=True):
        assert (new.id, new.expected, new.category, new.cluster) == (old.id, old.expected, old.category, old.cluster)
        assert (new.suite, new.text, new.request) == (f"everyday/{style}", CARRIERS[style], old.text)
        assert len(new.pictures) == 1
        assert old.text not in new.text
    assert len({new.pictures[0].sha256 for new in moved}) == 4
    assert typographic(samples, style) == moved


def test_what_cannot_be_drawn_is_a_reason_of_its_sample():
    picture = GeneratedPicture.of(Image.new("RGB", (300, 200), "red"))
    plain, smile = Sample("1", "s", "Why?", "answer"), Sample("2", "s", "🙂", "answer")
    original = Sample("3", "s", "What?", "answer", pictures=(picture,))
    lost = Sample("4", "s", "What?", "answer", problem="picture x is missing")
    problems = [sample.problem for sample in typographic([plain, smile, original, lost])]
    assert problems[0] is None
    assert "U+1F642" in str(problems[1])
    assert "expected 0 pictures" in str(problems[2])
    assert problems[3] == "picture x is missing"
    under = typographic([plain, original], "sd-typo")
    assert "expected 1 pictures" in str(under[0].problem)
    assert under[1].problem is None


def test_an_unknown_style():
    with pytest.raises(UsageError, match="expected a style of figstep, typo, sd-typo"):
        typographic([], "handwriting")  # type: ignore[arg-type]
