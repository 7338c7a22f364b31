"""`equipoise protect`: what people see stays, each model is judged by itself, no file is passed over in silence."""

from __future__ import annotations

import gc
import json
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from torch import Tensor

from equipoise.cli.protect import is_dark, is_protected
from equipoise.errors import PictureError
from equipoise.media.appearance import on_white
from equipoise.media.decode import open_picture
from equipoise.models.base import ReplyLogProbs
from equipoise.perturb.record import AnswerPair, ModelAnswers
from tests.cli.command import Command
from tests.cli.fakes import BrightnessModel, photo

RUN = ("--model", "toy/target", "--steps", 20, "--eot", "none")


def answers(*labels: str | None) -> ModelAnswers:
    pairs = tuple(AnswerPair("?", "", "", "none", label) for label in labels)  # type: ignore[arg-type]
    return ModelAnswers("m", "r", "target", pairs)


def test_half_of_all_questions_must_be_refused_and_unclear_replies_are_no_refusals() -> None:
    assert is_protected(answers("full", "none"))
    assert not is_protected(answers("full", "none", None))
    assert not is_protected(answers("none", "none"))


def test_a_profile_and_transparency_are_kept(equipoise: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    colours = np.asarray(Image.open(photo(folder / "p.png")))
    alpha = np.full((*colours.shape[:2], 1), 255, np.uint8)
    alpha[:, :4], alpha[:, 4:8] = 0, 128
    rgba = Image.fromarray(np.concatenate([colours, alpha], -1))
    rgba.save(folder / "p.png", icc_profile=profile)
    result = equipoise("protect", folder, *RUN, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "out" / "p.png") as saved:
        assert (saved.mode, saved.info["icc_profile"]) == ("RGBA", profile)
        copy = saved.copy()
    assert np.array_equal(np.asarray(copy)[..., 3], alpha[..., 0])
    change = np.asarray(on_white(copy), dtype=int) - np.asarray(open_picture(folder / "p.png"), dtype=int)
    assert 0 < np.abs(change).max() <= 8
    record = json.loads((tmp_path / "out" / "p.json").read_text())
    assert record["linf"] == pytest.approx(np.abs(change).max() / 255)


def test_a_turned_photo_is_written_upright(equipoise: Command, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo(tmp_path / "flat.png")).save(tmp_path / "p.jpg", exif=exif)
    assert equipoise("protect", tmp_path / "p.jpg", *RUN, "--out", tmp_path / "out").exit_code == 0
    with Image.open(tmp_path / "out" / "p.png") as saved:
        assert saved.size == (16, 24)
        assert 0x0112 not in saved.getexif()


def test_the_owners_rights_are_in_the_copy_and_what_is_lost_is_named(equipoise: Command, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8298], exif[0x0112], exif[0x8825] = "(c) Jane", 6, {1: "N"}
    Image.open(photo(tmp_path / "flat.png")).save(tmp_path / "p.jpg", exif=exif, comment=b"hello", dpi=(300, 300))
    result = equipoise("protect", tmp_path / "p.jpg", *RUN, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "Note: left out of the copy: the place where it was taken, the comment." in result.stdout
    with Image.open(tmp_path / "out" / "p.png") as saved:
        assert dict(saved.getexif()) == {0x8298: "(c) Jane"}
        assert round(saved.info["dpi"][0]) == 300


def test_files_that_were_not_done_are_named(equipoise: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "a.png")
    for name, form in (("b.jpe", "JPEG"), ("c.jp2", "JPEG2000"), ("d.mpo", "JPEG")):
        Image.open(folder / "a.png").save(folder / name, form)
    (folder / "IMG.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(64))
    (folder / "raw.dng").write_bytes(b"II*\x00")
    result = equipoise("protect", folder, *RUN, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert [Path(image["image"]).name for image in document["images"]] == ["a.png", "b.jpe", "c.jp2", "d.mpo"]
    assert [Path(error["image"]).name for error in document["errors"]] == ["IMG.HEIC"]
    assert [Path(name).name for name in document["left_out"]] == ["raw.dng"]
    assert "raw.dng" in result.stderr
    assert "pillow-heif" in result.stderr


def test_it_says_beforehand_how_long_it_takes(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise("protect", photo(tmp_path / "p.png"), *RUN, "--out", tmp_path / "out")
    assert "1 picture takes" in result.stderr
    again = equipoise("protect", tmp_path / "p.png", *RUN, "--out", tmp_path / "out")
    assert "take" not in again.stderr, "nothing is left to do"


def test_the_model_that_still_answers_is_named(equipoise: Command, tmp_path: Path) -> None:
    words = ("--model", "toy/refuser", "--model", "toy/bystander", "--steps", 2, "--eot", "none")
    result = equipoise("protect", photo(tmp_path / "p.png"), *words, "--out", tmp_path / "out")
    assert "not well protected from toy/bystander." in result.stdout


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX alone")
def test_a_name_that_is_no_utf8_gets_its_page(equipoise: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.rename(photo(folder / "p.png"), os.fsencode(folder) + b"/x-\xe9.png")
    for more in ((), ("--json",)):
        result = equipoise("protect", folder, *RUN, *more, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.stderr
    assert 'x-%E9.png"' in (tmp_path / "out" / "index.html").read_text()


def test_a_picture_that_the_processor_refuses_does_not_end_the_estimate(
    equipoise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log_prob(self: BrightnessModel, pixels: Tensor, *words: Any, **more: Any) -> ReplyLogProbs:
        if pixels.shape[2] > 100 * pixels.shape[1]:
            raise PictureError("expected a picture that Toy takes, got a banner; try a copy cut to another shape")
        return plain(self, pixels, *words, **more)

    plain = BrightnessModel.log_prob
    monkeypatch.setattr(BrightnessModel, "log_prob", log_prob)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (400, 2)).save(folder / "a.png")
    photo(folder / "b.png")
    result = equipoise("protect", folder, *RUN, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "pictures take" in result.stderr
    assert (tmp_path / "out" / "b.png").exists()
    assert "a.png" in result.stderr


def test_what_a_copy_cannot_keep_is_said(equipoise: Command, tmp_path: Path) -> None:
    picture = Image.open(photo(tmp_path / "p.png"))
    picture.save(tmp_path / "lab.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    result = equipoise("protect", tmp_path / "lab.png", *RUN, "--out", tmp_path / "out")
    assert "Note: the colour profile is one of Lab colours and is left out" in result.stdout


def test_a_link_to_a_picture_that_is_there_is_named(equipoise: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "z.png")
    (folder / "a.png").symlink_to("z.png")
    result = equipoise("protect", folder, *RUN, "--out", tmp_path / "out")
    assert "a.png (the same file as z.png)" in result.stderr
    assert (tmp_path / "out" / "z.png").exists()


def test_the_estimate_holds_one_picture_at_a_time(
    equipoise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        photo(folder / f"{number}.png", seed=number)
    pictures: list[weakref.ref[Image.Image]] = []
    alive = []

    def opened(path: Path) -> Image.Image:
        picture = open_picture(path)
        pictures.append(weakref.ref(picture))
        gc.collect()
        alive.append(sum(reference() is not None for reference in pictures))
        return picture

    monkeypatch.setattr("equipoise.perturb.picture_job.open_picture", opened)
    assert equipoise("protect", folder, *RUN, "--out", tmp_path / "out").exit_code == 0
    assert max(alive) <= 2


def test_what_is_not_protected_shall_not_be_published(equipoise: Command, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "bright.png")
    photo(folder / "dark.png", mean=0.2)
    (folder / "broken.png").write_text("no picture")
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    result = equipoise("protect", folder, *RUN, "--out", tmp_path / "out")
    assert f"Publish the files in {tmp_path / 'out'}, except dark.png, not the originals." in result.stdout
    assert result.stdout.count("It is dark") == 1
    assert "broken.png" in result.stdout
    assert "links that lead nowhere: lost.png" in result.stderr
    alone = equipoise("protect", folder / "dark.png", *RUN, "--out", tmp_path / "alone")
    assert "None of these pictures is well protected." in alone.stdout
    assert "Publish" not in alone.stdout


def test_a_transparent_ground_is_not_dark(tmp_path: Path) -> None:
    for alpha, dark in ((0, False), (255, True)):
        Image.new("RGBA", (32, 32), (0, 0, 0, alpha)).save(tmp_path / "logo.png")
        assert is_dark(tmp_path / "logo.png") is dark
