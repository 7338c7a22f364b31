"""Every bad input: one line, an exit code, what to do, and nothing half-written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import Command
from tests.cli.fakes import photo
from tests.media.test_decode import png_claiming

PERTURB = ("--model", "toy/target", "--steps", 12)


def failed(result: object, code: int) -> str:
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)  # type: ignore[attr-defined]
    assert result.stdout == ""  # type: ignore[attr-defined]
    error: str = result.stderr  # type: ignore[attr-defined]
    assert error.startswith("equipoise: expected ")
    assert error.count("\n") == 1
    assert "; try " in error
    return error


def make(path: Path, kind: str) -> Path:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))
    if kind == "animated":
        picture.save(path, "GIF", save_all=True, append_images=[picture.rotate(90)])
    elif kind == "truncated":
        picture.save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "missing":
        pass
    else:
        content = {"corrupt": b"\x89PNG\r\n\x1a\nxxxxxxxxxxx", "bomb": png_claiming(60_000, 60_000), "empty": b"",
                   "zero": png_claiming(0, 0), "text": b"hello"}[kind]  # fmt: skip
        path.write_bytes(content)
    return path


BAD = ("animated", "truncated", "missing", "corrupt", "bomb", "empty", "zero", "text")


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("verb", ["perturb", "protect", "ask"])
def test_one_bad_picture(equipoise: Command, tmp_path: Path, kind: str, verb: str) -> None:
    image, out = make(tmp_path / "bad.png", kind), tmp_path / "out"
    words = ["What?", "-m", "toy/target"] if verb == "ask" else [*PERTURB, "--out", out]
    error = failed(equipoise(verb, image, *words), 3)
    assert str(image) in error
    assert not out.exists() or [file.name for file in out.iterdir()] == []


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "PHOTO", "What?", "-m", "toy/text"),
        ("ask", "What?", "-m", "toy/text", "--defend", "noise"),
        ("perturb", "PHOTO", "--model", "toy/text", "--out", "OUT"),
        ("perturb", "PHOTO", "--model", "toy/target", "--bystander", "toy/text", "--out", "OUT"),
        ("protect", "PHOTO", "--model", "toy/text", "--out", "OUT"),
        ("detect", "PHOTO", "--model", "toy/text"),
        ("certify", "PHOTO", "What?", "--model", "toy/text"),
        ("audit", "toy/text", "--attack", "refusal", "--suite", "everyday", "--out", "OUT"),
        ("audit", "toy/text", "--defend", "jpeg", "--suite", "everyday", "--out", "OUT"),
    ],
    ids=" ".join,
)
def test_pictures_for_a_model_that_reads_none(equipoise: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    places = {"PHOTO": str(photo(tmp_path / "p.png")), "OUT": str(out)}
    error = failed(equipoise(*(places.get(word, word) for word in words)), 4)
    assert "toy/text" in error
    assert "text only" in error
    assert not out.exists()


@pytest.mark.parametrize("words", [("PHOTO",), (" ",), ("PHOTO", " "), ("PHOTO", "What", "is it?")])
def test_an_ask_without_a_question(equipoise: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    image = str(photo(tmp_path / "p.png"))
    failed(equipoise("ask", *(image if word == "PHOTO" else word for word in words), "-m", "toy/text"), 2)


def test_bad_pictures_in_a_folder_do_not_stop_the_others(equipoise: Command, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    bad = [kind for kind in BAD if kind != "missing"]
    for kind in bad:
        make(photos / f"{kind}.png", kind)
    for seed in range(2):
        photo(photos / f"photo{seed}.png", seed=seed)
    with Image.open(photos / "photo0.png") as picture:
        picture.convert("L").save(photos / "grey.png")
        picture.convert("RGBA").save(photos / "alpha.png")
        picture.convert("P").save(photos / "palette.png")
        picture.convert("CMYK").save(photos / "print.jpg", quality=100)
    Image.fromarray(np.full((9, 9), 31000, np.uint16)).save(photos / "sixteen.png")
    result = equipoise("perturb", photos, photos / "missing.png", *PERTURB, "--json", "--out", tmp_path / "out")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    good = {"photo0", "photo1", "grey", "alpha", "palette", "print", "sixteen"}
    assert {Path(image["image"]).stem for image in document["images"]} == good
    assert {Path(error["image"]).stem for error in document["errors"]} == set(BAD)
    assert all(image["refusals"]["refused"] == 10 for image in document["images"])
    lines = [line for line in result.stderr.splitlines() if line.startswith("equipoise: ")]
    assert len(lines) == len(BAD) + 1
    assert lines[-1] == f"equipoise: {len(BAD)} of {len(BAD) + len(good)} pictures failed"
    expected = {f"{stem}.{suffix}" for stem in good for suffix in ("png", "json")}
    assert {file.name for file in (tmp_path / "out").iterdir()} == expected | {"index.html", ".equipoise.json"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epsilon", "0"), "epsilon above 0"),
        (("--epsilon", "-0.1"), "epsilon above 0"),
        (("--epsilon", "1.5"), "epsilon of at most 1"),
        (("--epsilon", "8"), "epsilon of at most 1"),
        (("--epsilon", "0.001"), "at least 1/255"),
        (("--epsilon", "eight"), "'eight'"),
        (("--epsilon", "8/0"), "'8/0'"),
        (("--epsilon", "nan"), "finite"),
        (("--epsilon", ""), "a number or a fraction"),
        (("--question", ""), "empty text"),
        (("--question", "What?", "--question", "  "), "empty text"),
        (("--ask", ""), "empty text"),
        (("--questions", "EMPTY"), "got none"),
        (("--questions", "MISSING"), "missing.txt"),
        (("--questions", "BINARY"), "UTF-8"),
        (("--held-out", "EMPTY"), "got none"),
        (("--shadow", "exact"), "questions for --shadow exact"),
        (("--shadow", "similar"), "questions for --shadow similar"),
        (("--solver", "magic"), "'magic'"),
        (("--eot", "jpeg,fog"), "'fog'"),
        (("--refusal", " "), "empty text"),
        (("--keep-away",), "--bystander"),
        (("--bystander", "toy/target"), "toy/target as both"),
        (("--model", "toy/target"), "twice"),
        (("--model", ""), "empty text"),
        (("--max-seconds", "0"), "seconds above 0"),
    ],
)
def test_options_that_cannot_be(equipoise: Command, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    files = {name.upper(): str(tmp_path / f"{name}.txt") for name in ("empty", "missing", "binary")}
    given = [files.get(word, word) for word in words]
    result = equipoise("perturb", photo(tmp_path / "p.png"), *PERTURB, "--out", tmp_path / "out", *given)
    assert message in failed(result, 2)
    assert not (tmp_path / "out" / "p.png").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("perturb", "p.png", *PERTURB, "--out", ""),
        ("perturb", "", *PERTURB, "--out", "out"),
        ("report", "run", "--csv", ""),
        ("gate", "run", "--rules", "rules.toml", "--junit", ""),
        ("train", "detector", "--rows", "rows.jsonl", "--out="),
        ("guard", "calibrate", "--labels", "rows.jsonl", "-o", ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    equipoise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "expected a path for" in failed(equipoise(*words), 2)
    assert not list(tmp_path.iterdir())


def test_an_empty_question_to_ask(equipoise: Command, tmp_path: Path) -> None:
    failed(equipoise("ask", photo(tmp_path / "p.png"), " ", "-m", "toy/target"), 2)


def test_a_model_that_is_not_there(equipoise: Command, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png")
    assert "toy/none" in failed(equipoise("ask", image, "What?", "-m", "toy/none"), 4)
    failed(equipoise("perturb", image, *PERTURB, "-b", "toy/none", "--out", tmp_path / "out"), 4)
    failed(equipoise("protect", image, "-m", "toy/none", "--out", tmp_path / "out"), 4)
    assert not (tmp_path / "out").exists()


def test_two_inputs_with_one_stem(equipoise: Command, tmp_path: Path) -> None:
    photo(tmp_path / "cat.png")
    photo(tmp_path / "cat.bmp")
    error = failed(equipoise("perturb", tmp_path, *PERTURB, "--out", tmp_path / "out"), 2)
    assert "cat.png" in error
    assert "cat.bmp" in error


def test_a_folder_without_pictures(equipoise: Command, tmp_path: Path) -> None:
    failed(equipoise("perturb", tmp_path, *PERTURB, "--out", tmp_path / "out"), 2)


def test_output_that_cannot_be_written(equipoise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(tmp_path / "p.png")
    (tmp_path / "file").write_text("")
    failed(equipoise("perturb", image, *PERTURB, "--out", tmp_path / "file"), 5)
    failed(equipoise("perturb", image, *PERTURB, "--out", tmp_path / "file" / "out"), 5)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.replace", full)
    assert "No space left" in failed(equipoise("perturb", image, *PERTURB, "--out", tmp_path / "out"), 5)
    assert [file.name for file in (tmp_path / "out").iterdir() if file.name != ".equipoise.json"] == []


def test_results_never_go_where_the_pictures_are(equipoise: Command, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png")
    before = image.read_bytes()
    error = failed(equipoise("perturb", image, *PERTURB, "--out", tmp_path, "--overwrite"), 2)
    assert "--out" in error
    assert image.read_bytes() == before


def test_foreign_files_are_not_replaced(equipoise: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "p.png").write_bytes(b"somebody's")
    image = photo(tmp_path / "p.png")
    assert "p.png" in failed(equipoise("perturb", image, *PERTURB, "--out", out), 2)
    assert (out / "p.png").read_bytes() == b"somebody's"
    assert equipoise("perturb", image, *PERTURB, "--out", out, "--overwrite").exit_code == 0
