"""Pictures of samples: what they are, and what becomes of a sample whose picture cannot be had."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from PIL import Image

from equipoise.data.sample_pictures import GeneratedPicture, StoredPicture, attach, check_pictures
from equipoise.errors import PictureError
from equipoise.types import Picture, Sample

SAMPLE = Sample("1", "mine", "What is this?", "answer")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "suite" / "images").mkdir(parents=True)
    Image.new("RGB", (5, 4), "red").save(tmp_path / "suite" / "images" / "red.png")
    Image.new("RGB", (5, 4), "blue").save(tmp_path / "secret.png")
    return tmp_path / "suite"


def test_a_stored_picture_is_its_file(folder):
    path = folder / "images" / "red.png"
    picture = StoredPicture(path)
    assert isinstance(picture, Picture)
    assert picture.data() == path.read_bytes()
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.open().getpixel((0, 0)) == (255, 0, 0)


def test_a_stored_picture_is_read_only_when_needed(tmp_path):
    picture = StoredPicture(tmp_path / "none.png")
    with pytest.raises(PictureError, match=r"none\.png"):
        picture.data()
    with pytest.raises(PictureError, match=r"none\.png"):
        picture.open()


def test_a_made_picture_is_lossless_and_the_same_bytes_each_time():
    image = Image.effect_noise((20, 10), 50).convert("RGB")
    picture = GeneratedPicture.of(image)
    assert isinstance(picture, Picture)
    assert picture == GeneratedPicture.of(image)
    assert picture.open().tobytes() == image.tobytes()
    assert picture.sha256 == hashlib.sha256(picture.data()).hexdigest()


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_bytes_that_are_no_picture_are_an_error(content):
    with pytest.raises(PictureError):
        GeneratedPicture(content).open()


@pytest.mark.parametrize("name", ["images/red.png", "images\\red.png", "./images/../images/red.png"])
def test_a_name_inside_the_folder_is_found(folder, name):
    assert attach(SAMPLE, folder, name).pictures == (StoredPicture(folder / "images" / "red.png"),)


def test_other_places_are_tried_in_order(folder):
    sample = attach(SAMPLE, folder, "red.png", within=("", "images"))
    assert sample.problem is None
    assert len(sample.pictures) == 1


@pytest.mark.parametrize(
    "name", ["../secret.png", "images/../../secret.png", "..\\secret.png", "/etc/hostname", "C:\\x.png", "..", "a\0b"]
)
def test_a_name_that_leads_out_of_the_folder_is_never_opened(folder, name):
    sample = attach(SAMPLE, folder, name)
    assert sample.pictures == ()
    assert sample.problem
    assert "outside" in sample.problem


def test_an_absolute_name_is_read_where_it_points_inside(folder):
    sample = attach(SAMPLE, folder, str(folder / "images" / "red.png"))
    assert sample.problem is None
    assert [picture.path for picture in sample.pictures] == [folder / "images" / "red.png"]
    assert "outside" in str(attach(SAMPLE, folder, str(folder.parent / "red.png")).problem)


@pytest.mark.parametrize("name", [None, "", "  ", 7, {}])
def test_no_name_is_a_reason(folder, name):
    assert attach(SAMPLE, folder, name).problem == "the name of its picture is missing"


def test_a_name_too_long_for_any_file_is_a_reason(folder):
    assert "cannot be read" in str(attach(SAMPLE, folder, "x" * 5000).problem)


def test_one_missing_picture_of_two_is_a_reason(folder):
    sample = attach(SAMPLE, folder, "images/red.png", "images/x.jpg")
    assert (sample.problem, sample.pictures) == ("picture images/x.jpg is missing", ())


def test_embedded_bytes_are_pictures(folder):
    file = io.BytesIO()
    Image.new("RGB", (3, 3), "lime").save(file, format="PNG")
    for cell in (file.getvalue(), {"bytes": file.getvalue(), "path": "lost.png"}):
        assert attach(SAMPLE, folder, cell).pictures[0].open().getpixel((1, 1)) == (0, 255, 0)


def test_a_damaged_picture_is_a_reason_for_its_samples_only(folder):
    whole = (folder / "images" / "red.png").read_bytes()
    (folder / "images" / "half.png").write_bytes(whole[: len(whole) // 2])
    good, bad = attach(SAMPLE, folder, "images/red.png"), attach(SAMPLE, folder, "images/half.png")
    checked = check_pictures([good, bad, good])
    assert checked[0] == checked[2] == good
    assert checked[1].problem
    assert checked[1].problem.startswith("picture cannot be read: ")
    assert checked[1].pictures == ()


def test_links_are_followed_as_data_sets_from_a_hub_are_links(folder, tmp_path):
    os.symlink(tmp_path / "secret.png", folder / "images" / "linked.png")
    assert attach(SAMPLE, folder, "images/linked.png").problem is None
