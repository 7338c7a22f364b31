"""Copies of pictures on a page: small, within a limit, and never from outside of the run's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.media.decode import decode_picture
from equipoise.media.encode import read_data_url
from equipoise.report.audit.image_store import SIDE, SMALL, EmbeddedImage, ImageStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pictures / "large.png")
    Image.new("RGB", (24, 16), (10, 200, 30)).save(pictures / "small.png")
    Image.new("RGB", (24, 16), (12, 200, 30)).save(pictures / "changed.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "secret.png")
    return pictures


def opened(image: EmbeddedImage) -> Image.Image:
    assert image.uri is not None
    return decode_picture(read_data_url(image.uri), "a copy")


def test_a_large_picture_is_reduced_and_keeps_its_proportions(folder: Path) -> None:
    copy = ImageStore(folder).copy("large.png", "A photo")
    assert opened(copy).size == (SIDE, round(SIDE * 600 / 900))
    assert (copy.small, copy.words) == (False, "A photo")


def test_a_small_picture_is_kept_pixel_by_pixel(folder: Path) -> None:
    copy = ImageStore(folder).copy("small.png", "A tile")
    assert opened(copy).size == (24, 16)
    assert opened(copy).getpixel((3, 3)) == (10, 200, 30)
    assert copy.small
    assert max(opened(copy).size) <= SMALL


def test_a_difference_is_amplified_around_grey(folder: Path) -> None:
    change = ImageStore(folder).change("small.png", "changed.png", "The difference")
    assert opened(change).getpixel((5, 5)) == (128 + 2 * 16, 128, 128)
    assert opened(ImageStore(folder).change("small.png", "small.png", "x")).getpixel((0, 0)) == (128, 128, 128)


def test_pictures_of_two_sizes_are_not_compared(folder: Path) -> None:
    change = ImageStore(folder).change("small.png", "large.png", "The difference")
    assert (change.uri, change.words) == (None, "The difference: not comparable")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "../secret.png", "..\\secret.png/x", "/etc/passwd", "none.png", "broken.png", "a\0b",
        "x" * 400, "\ud800.png", "small.png/", "sub/small.png",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_nowhere_is_not_shown(folder: Path, name: str) -> None:
    store = ImageStore(folder)
    assert store.copy(name, "A photo") == EmbeddedImage(None, "A photo: not readable")
    assert store.change(name, "small.png", "D").uri is None
    assert store.left_out == 0


def test_an_absolute_name_of_a_picture_inside_is_not_opened(folder: Path) -> None:
    assert ImageStore(folder).copy(str(folder / "small.png"), "x").uri is None


@settings(max_examples=40)
@given(st.text(max_size=12))
def test_no_name_opens_a_picture_above(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("run")
    (root / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(root / "p.png")
    for given_name in (name, f"../{name}", f"{name}/../../p.png"):
        assert ImageStore(root / "pictures").copy(given_name, "x").uri is None


def test_the_page_has_a_limit_and_counts_what_it_left_out(folder: Path) -> None:
    size = len(ImageStore(folder).copy("small.png", "x").uri or "")
    store = ImageStore(folder, limit=2 * size + 1)
    copies = [store.copy("small.png", "A tile") for _ in range(4)]
    assert [copy.uri is not None for copy in copies] == [True, True, False, False]
    assert copies[2].words == "A tile: left out, as the page has no more room for pictures"
    assert store.left_out == 2


def test_a_large_copy_that_does_not_fit_leaves_room_for_small_ones(folder: Path) -> None:
    store = ImageStore(folder, limit=2000)
    assert store.copy("large.png", "x").uri is None
    assert store.copy("small.png", "x").uri is not None
    assert store.left_out == 1
