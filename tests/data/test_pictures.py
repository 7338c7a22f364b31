"""Folders and files on a command line become a list of pictures whose results cannot collide."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.data.pictures import find_pictures
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


def test_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder with pictures"):
        find_pictures([tmp_path])
    with pytest.raises(UsageError, match="at least one"):
        find_pictures([])
