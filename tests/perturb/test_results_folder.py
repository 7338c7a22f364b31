"""`ResultsFolder`: what counts as finished, and which folders a run may write to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from equipoise.errors import OutputError, PictureError, UsageError
from equipoise.perturb.record import PictureRecord
from equipoise.perturb.results_folder import CLAIMED, MANIFEST, ResultsFolder, only_writer, sha256
from tests.perturb.test_record import record

RECIPE = {"models": ["a"], "epsilon": 8 / 255, "seed": 0}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "cat.jpg"
    path.parent.mkdir()
    Image.new("RGB", (9, 9), (10, 20, 30)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, clean: Path) -> ResultsFolder:
    """A claimed folder with one attacked picture that nobody has measured."""
    results = ResultsFolder(tmp_path / "out", RECIPE)
    results.claim((clean,), overwrite=False)
    Image.new("RGB", (9, 9), (11, 20, 30)).save(results.png(clean))
    run = {"image": str(clean), "clean_sha256": sha256(clean), "recipe": RECIPE, "peak_memory": None}
    document = {"png_sha256": sha256(results.png(clean)), "recipe": {"run": run}}
    results.json(clean).write_text(json.dumps(document))
    return results


def test_an_attacked_picture_is_finished_only_with_its_record(folder: ResultsFolder, clean: Path) -> None:
    assert folder.attacked(clean) is not None
    assert folder.finished(clean) is None
    measured = record(image=str(clean))
    folder.finish(clean, measured)
    assert folder.finished(clean) == measured
    assert PictureRecord.from_dict(json.loads(folder.json(clean).read_text())["recipe"]["run"]["record"]) == measured


def test_another_recipe_has_finished_nothing(folder: ResultsFolder, clean: Path) -> None:
    folder.finish(clean, record())
    other = replace(folder, recipe=RECIPE | {"seed": 1})
    assert other.attacked(clean) is None
    assert other.finished(clean) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_changed_file_is_attacked_again(folder: ResultsFolder, clean: Path, suffix: str) -> None:
    folder.finish(clean, record())
    changed = folder.png(clean) if suffix == ".png" else clean
    Image.new("RGB", (9, 9), "red").save(changed)
    assert folder.attacked(clean) is None
    assert folder.finished(clean) is None


def removed(*keys: str) -> Callable[[dict[str, Any]], object]:
    def remove(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return remove


@pytest.mark.parametrize(
    "damage",
    [
        removed("png_sha256"),
        removed("recipe"),
        removed("recipe", "run"),
        removed("recipe", "run", "clean_sha256"),
        lambda document: document.update(recipe=[1]),
        lambda document: document["recipe"].update(run="x"),
    ],
)
def test_a_json_that_lacks_a_part_is_no_result(
    folder: ResultsFolder, clean: Path, damage: Callable[[dict[str, Any]], object]
) -> None:
    folder.finish(clean, record())
    document = json.loads(folder.json(clean).read_text())
    damage(document)
    folder.json(clean).write_text(json.dumps(document))
    assert folder.attacked(clean) is None
    assert folder.finished(clean) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe\x00", b'"text"'])
def test_a_json_that_is_none_is_no_result(folder: ResultsFolder, clean: Path, content: bytes) -> None:
    folder.json(clean).write_bytes(content)
    assert folder.attacked(clean) is None
    with pytest.raises(OutputError, match=r"expected the JSON of cat\.png"):
        folder.finish(clean, record())


@pytest.mark.parametrize("kept", [{"image": 1}, {"models": [{}]}, [], "x", 3])
def test_a_record_of_another_shape_is_measured_again(folder: ResultsFolder, clean: Path, kept: object) -> None:
    document = json.loads(folder.json(clean).read_text())
    document["recipe"]["run"]["record"] = kept
    folder.json(clean).write_text(json.dumps(document))
    assert folder.attacked(clean) is not None
    assert folder.finished(clean) is None


def test_a_png_that_is_gone_is_made_again(folder: ResultsFolder, clean: Path) -> None:
    folder.png(clean).unlink()
    assert folder.attacked(clean) is None


def test_a_folder_of_another_recipe_is_refused_and_says_what_changed(folder: ResultsFolder, clean: Path) -> None:
    other = replace(folder, recipe=RECIPE | {"seed": 7, "epsilon": 0.1})
    with pytest.raises(UsageError, match=r"epsilon was 0\.0313\d+, now 0\.1; seed was 0, now 7") as refused:
        other.claim((clean,), overwrite=False)
    assert "\n" not in str(refused.value)
    assert json.loads((folder.path / MANIFEST).read_text()) == RECIPE | {CLAIMED: [clean.stem]}
    other.claim((clean,), overwrite=True)
    assert json.loads((folder.path / MANIFEST).read_text()) == other.recipe | {CLAIMED: [clean.stem]}


def test_a_long_value_is_cut_in_the_message(folder: ResultsFolder) -> None:
    with pytest.raises(UsageError) as refused:
        ResultsFolder.check(folder.path, {"models": ["m" * 500]}, overwrite=False)
    assert "m" * 50 not in str(refused.value)
    assert "..., now" not in str(refused.value), "a short value is shown whole"


def test_a_part_of_the_recipe_is_enough_to_check(folder: ResultsFolder) -> None:
    """Before models are loaded, their revisions are not known yet."""
    ResultsFolder.check(folder.path, {"seed": 0}, overwrite=False)
    with pytest.raises(UsageError, match="seed"):
        ResultsFolder.check(folder.path, {"seed": 1}, overwrite=False)


@pytest.mark.parametrize("name", ["cat.png", "cat.json", "index.html", "index-2.html"])
def test_files_of_something_else_are_not_overwritten(tmp_path: Path, clean: Path, name: str) -> None:
    results = ResultsFolder(tmp_path / "out", RECIPE)
    results.path.mkdir()
    (results.path / name).write_text("precious")
    with pytest.raises(UsageError, match=f"expected no {name}"):
        results.claim((clean,), overwrite=False)
    assert (results.path / name).read_text() == "precious"
    assert not (results.path / MANIFEST).exists()
    (results.path / "notes.txt").write_text("kept")
    results.claim((clean,), overwrite=True)
    assert (results.path / "notes.txt").read_text() == "kept"


def test_what_a_killed_run_left_is_removed_and_nothing_else(folder: ResultsFolder) -> None:
    for name in (".cat.png.part", ".equipoise-0123", ".hidden", "cat.part"):
        (folder.path / name).write_text("")
    before = {path.name for path in folder.path.iterdir()}
    folder.clean()
    assert before - {path.name for path in folder.path.iterdir()} == {".cat.png.part", ".equipoise-0123"}


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="try another --out") as refused:
            ResultsFolder.check(path, {}, overwrite=False)
        assert "\n" not in str(refused.value)


def test_the_check_leaves_neither_probe_nor_folder(tmp_path: Path) -> None:
    ResultsFolder.check(tmp_path / "new", {}, overwrite=False)
    assert not (tmp_path / "new").exists()


def test_stem_png_and_json_belong_together(folder: ResultsFolder) -> None:
    image = Path("else/where/a.b.tiff")
    assert folder.stem(image).with_name("a.b.png") == folder.png(image)
    assert folder.stem(image).with_name("a.b.json") == folder.json(image)


def test_a_file_that_is_no_page_of_the_contact_sheet_stays(tmp_path: Path) -> None:
    (tmp_path / "index_notes.html").write_text("another's")
    ResultsFolder(tmp_path, {"models": ["toy"]}).claim((Path("cat.jpg"),), overwrite=False)
    assert (tmp_path / "index_notes.html").read_text() == "another's"


@pytest.mark.parametrize("name", ["..png", "...jpg", ".equipoise.png", ".equipoise-1.png"])
def test_a_name_whose_results_would_leave_the_folder_or_replace_our_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match="try to rename it"):
        ResultsFolder(tmp_path, RECIPE).require_names(Path("photos") / name)
    ResultsFolder(tmp_path, RECIPE).require_names(Path("photos/.cat.png"))


def test_a_long_name_is_no_file_of_something_else(tmp_path: Path) -> None:
    ResultsFolder(tmp_path, RECIPE).claim((Path("x" * 251 + ".png"),), overwrite=False)


def test_half_written_files_of_others_and_folders_stay(folder: ResultsFolder) -> None:
    (folder.path / ".film.mkv.part").write_text("")
    (folder.path / ".cat.png.part").mkdir()
    folder.clean()
    assert (folder.path / ".film.mkv.part").exists()
    assert (folder.path / ".cat.png.part").is_dir()


def test_a_folder_has_one_writer_and_is_free_again_after_it(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with only_writer(path):
        with pytest.raises(UsageError, match="another run doing so"), only_writer(path):
            pass
        assert list(path.iterdir()) == []
    assert not path.exists()
    path.mkdir()
    with only_writer(path):
        pass
    assert path.is_dir()


@pytest.mark.parametrize("name", ["dog.png", "dog.json"])
def test_a_file_that_was_put_between_two_runs_is_not_overwritten(folder: ResultsFolder, clean: Path, name: str) -> None:
    (folder.path / name).write_text("precious")
    folder.claim((clean,), overwrite=False)
    with pytest.raises(UsageError, match=f"expected no {name}"):
        folder.claim((clean, Path("dog.jpg")), overwrite=False)
    (folder.path / name).unlink()
    folder.claim((Path("dog.jpg"),), overwrite=False)
    (folder.path / name).write_text("a result")
    folder.claim((clean, Path("dog.jpg")), overwrite=False)


def test_a_folder_of_an_earlier_version_goes_on(folder: ResultsFolder, clean: Path) -> None:
    (folder.path / MANIFEST).write_text(json.dumps(dict(folder.recipe)))
    folder.claim((clean, Path("dog.jpg")), overwrite=False)


def test_a_folder_of_an_earlier_version_stays_open_to_all_of_its_pictures(folder: ResultsFolder, clean: Path) -> None:
    (folder.path / MANIFEST).write_text(json.dumps(dict(folder.recipe)))
    (folder.path / "dog.png").write_text("a result of then")
    folder.claim((clean,), overwrite=False)
    folder.claim((clean, Path("dog.jpg")), overwrite=False)


def test_the_results_of_another_picture_with_the_same_name_are_kept(folder: ResultsFolder, clean: Path) -> None:
    other = clean.parent / "more" / "cat.png"
    other.parent.mkdir()
    Image.new("RGB", (9, 9), "red").save(other)
    with pytest.raises(PictureError, match=r"got those of .*cat\.jpg; try another --out"):
        folder.require_names(other)
    replace(folder, replaces=True).require_names(other)
    # The same picture, edited or moved, is not another one.
    Image.new("RGB", (9, 9), "blue").save(clean)
    folder.require_names(clean)


def test_a_picture_that_was_moved_keeps_its_results(folder: ResultsFolder, clean: Path, tmp_path: Path) -> None:
    moved = tmp_path / "cat.jpg"
    clean.rename(moved)
    folder.require_names(moved)


def test_the_message_names_the_part_that_differs(folder: ResultsFolder) -> None:
    long = "sha256:" + 60 * "a"
    kept = ResultsFolder(folder.path / "x", RECIPE | {"revisions": {"m": f"{long}1", "n": long}})
    kept.claim((), overwrite=False)
    with pytest.raises(UsageError, match=r'revisions of m was "\.\.\.1", now "\.\.\.2"'):
        ResultsFolder.check(kept.path, RECIPE | {"revisions": {"m": f"{long}2", "n": long}}, overwrite=False)
