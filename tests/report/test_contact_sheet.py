"""The contact sheet is one file that needs nothing else, and trusts no text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.errors import OutputError
from equipoise.perturb.record import ModelAnswers
from equipoise.report import contact_sheet
from equipoise.report.pictures import curve, data_uri, difference
from equipoise.stats.proportions import Rate
from tests.perturb.test_record import answer, record

NASTY = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Collects tags, their attributes, and unclosed tags."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("original.png", "cat.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def test_the_page_is_whole_and_needs_nothing_else(folder: Path) -> None:
    bystander = ModelAnswers("toy/by", "r2", "bystander", (answer(after="none"),))
    target = ModelAnswers("toy/target", "r1", "target", (answer(), answer("partial", None)))
    shown = record(target, bystander, image=str(folder / "original.png"), warnings=("a warning",))
    path = contact_sheet.write([shown, shown], folder, errors={"bad.png": "expected a picture"})
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert page.tags.count("img") == 6
    assert all(link.startswith("data:image/") or link == "cat.png" for link in page.links)
    assert not re.search(r"https?://|@import|url\(", text)
    for words in ("8/255", "34.5 dB", "0.930", "a warning", "toy/by", "unscored", "partly refused", "bad.png",
                  "prefers-color-scheme: dark", "equipoise perturb photos/cat.jpg", "r1"):  # fmt: skip
        assert words in text


def test_text_is_never_markup(folder: Path) -> None:
    answers = ModelAnswers(NASTY, NASTY, "target", (answer(question=NASTY),))
    shown = record(answers, image=NASTY, warnings=(NASTY,), command=NASTY, recipe={NASTY: [NASTY]}, file="cat.png")
    text = contact_sheet.render([shown], folder, errors={NASTY: NASTY})
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def test_an_original_that_is_gone_is_said(folder: Path) -> None:
    text = contact_sheet.render([record(image=str(folder / "gone.png"))], folder)
    assert "Original: not readable now" in text
    assert Page(text).tags.count("img") == 1


def test_a_page_without_pictures(folder: Path) -> None:
    assert "0 pictures" in contact_sheet.render([], folder, errors={"a": "b"})


def test_nothing_is_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "index.html").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        contact_sheet.write([record()], folder)
    assert (folder / "index.html").read_text() == "old"
    assert not list(folder.glob(".writing-*"))


def test_the_difference_is_sixteen_times_on_grey() -> None:
    clean = Image.new("RGB", (1, 1), (100, 100, 100))
    change = difference(clean, Image.new("RGB", (1, 1), (103, 98, 255)))
    assert change.getpixel((0, 0)) == (128 + 48, 128 - 32, 255)


def test_large_pictures_are_reduced_on_the_page() -> None:
    assert len(data_uri(Image.new("RGB", (3000, 20)))) < 3000


@pytest.mark.parametrize(
    ("losses", "points"), [([], None), ([1.0], None), ([float("nan")] * 3, None), ([2.0, 1.0], 2), ([0.0] * 5, 5)]
)
def test_the_curve_has_the_losses(losses: list[float], points: int | None) -> None:
    drawn = curve(losses)
    assert (drawn and drawn.path.count(",")) == points


def test_a_long_curve_keeps_its_ends() -> None:
    drawn = curve([10000.0 - i for i in range(10001)])
    assert drawn
    assert drawn.path.count(",") < 1400
    assert drawn.path.startswith("M0.0,0.0 ")
    assert drawn.path.endswith(f" L{drawn.width:.1f},{drawn.height:.1f}")


def test_numbers_as_people_read_them() -> None:
    assert contact_sheet.fraction(8 / 255) == "8/255"
    assert contact_sheet.fraction(0.01) == "2.55/255"
    assert contact_sheet.percent(Rate.of(199, 200)).startswith("99.5")
    assert contact_sheet.percent(Rate.of(0, 0)) == "unknown"
    assert contact_sheet.plain({"a": [1, None], "e": 8 / 255, "none": []}) == "a 1 · none, e 8/255, none none"


def test_many_pictures_have_pages_with_one_summary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "PICTURES_PER_PAGE", 2)
    shown = [record(image=str(folder / "original.png"), file=f"{number}.png") for number in range(5)]
    (folder / "index-7.html").write_text("another's")
    first = contact_sheet.write(shown, folder, errors={"bad.png": "expected a picture"})
    assert first.name == "index.html"
    pages = [folder / name for name in ("index.html", "index-2.html", "index-3.html")]
    texts = [page.read_text() for page in pages]
    assert [text.count("<article") for text in texts] == [2, 2, 1]
    summaries = {text[text.index('<section class="tiles"') : text.index("</section>")] for text in texts}
    assert len(summaries) == 1
    assert all("5 pictures" in text for text in texts)
    assert ["bad.png" in text for text in texts] == [True, False, False]
    for number, text in enumerate(texts):
        assert not Page(text).open
        others = [page.name for page in pages if page != pages[number]]
        assert all(f'href="{name}"' in text for name in others)
        assert f'href="{pages[number].name}"' not in text
    contact_sheet.write(shown[:3], folder)
    assert not (folder / "index-3.html").exists()
    assert (folder / "index-7.html").read_text() == "another's"
    contact_sheet.write(shown[:1], folder)
    assert "<nav" not in first.read_text()
    assert not (folder / "index-2.html").exists()
