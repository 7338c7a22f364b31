"""Folders and files on a command line become a list of pictures whose results cannot collide."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.data.pictures import find_pictures, select_pictures
from equipoise.errors import UsageError


def test_folders_are_searched_one_level_and_sorted(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "c.webp", "notes.txt", ".hidden.png", "sub/d.png"):
        (tmp_path / name).touch()
    assert [f.name for f in find_pictures([tmp_path])] == ["a.JPG", "b.png", "c.webp"]
    assert len(find_pictures([tmp_path, tmp_path / "b.png", tmp_path / "sub" / ".." / "b.png"])) == 3


def test_two_inputs_with_one_stem_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"cat\.png.*cat\.jpg|cat\.jpg.*cat\.png"):
        find_pictures([tmp_path])


def test_all_inputs_with_one_stem_are_named_at_once(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.jpg", "dog.gif", "dog.webp", "cow.png"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as error:
        find_pictures([tmp_path])
    assert all(name in str(error.value) for name in ("cat.png", "cat.jpg", "dog.gif", "dog.webp"))
    assert "cow" not in str(error.value)


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder with pictures"):
        find_pictures([tmp_path])
    with pytest.raises(UsageError, match="at least one"):
        find_pictures([])


def test_hidden_pictures_are_named_and_what_a_system_keeps_beside_them_is_not(tmp_path: Path) -> None:
    for name in ("a.png", ".b.png", "._a.png", ".DS_Store", ".thumbs"):
        (tmp_path / name).touch()
    chosen = select_pictures([tmp_path])
    assert [file.name for file in chosen.pictures] == ["a.png"]
    assert [file.name for file in chosen.left_out] == [".b.png"]
    assert not select_pictures([tmp_path, tmp_path / ".b.png"]).left_out


def test_files_beside_pictures_are_named_and_hidden_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.JPE", "b.mpo", "c.jp2", "d.HEIC", "notes.txt", "raw.dng", ".hidden", "sub/e.doc"):
        (tmp_path / name).touch()
    (tmp_path / "2023").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    chosen = select_pictures([tmp_path])
    assert [file.name for file in chosen.pictures] == ["a.JPE", "b.mpo", "c.jp2", "d.HEIC"]
    assert [file.name for file in chosen.left_out] == ["2023", "gone.png", "loop.jpg", "notes.txt", "raw.dng", "sub"]
    named = select_pictures([tmp_path, tmp_path / "raw.dng"])
    assert tmp_path / "raw.dng" in named.pictures
    assert [file.name for file in named.left_out] == ["2023", "gone.png", "loop.jpg", "notes.txt", "sub"]


def test_equal_stems_are_fine_where_nothing_is_written(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.jpg"):
        (tmp_path / name).touch()
    assert len(find_pictures([tmp_path], distinct_stems=False)) == 2


def test_a_link_in_a_circle_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    # What opens it says that nothing is there.
    assert find_pictures([loop]) == [loop]


def test_a_file_is_taken_before_a_link_to_it_and_the_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "z.png").touch()
    (tmp_path / "a.png").symlink_to(tmp_path / "z.png")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.png")
    chosen = select_pictures([tmp_path, tmp_path / "z.png"])
    assert chosen.pictures == (tmp_path / "z.png",)
    assert chosen.same == ((tmp_path / "a.png", tmp_path / "z.png"), (tmp_path / "b.jpg", tmp_path / "z.png"))
    assert chosen.left_out == ()
