"""The folder of the reference base model: where the user says, else in the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.errors import ModelError
from equipoise.models.reference_base import BASE, VARIABLE, WEIGHTS, base_folder, require_base


def test_the_variable_goes_before_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert base_folder() == tmp_path / "xdg" / "equipoise" / BASE
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    assert base_folder() == tmp_path / "mine" / BASE


@pytest.mark.parametrize(
    ("platform", "folder"), [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")]
)
def test_each_platform_has_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, folder: str
) -> None:
    for name in (VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert base_folder() == tmp_path / folder / "equipoise" / BASE


def test_a_base_that_is_not_all_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    line = r"^expected the reference base model .*, got none in .*; try equipoise reference install$"
    with pytest.raises(ModelError, match=line):
        require_base()
    base_folder().mkdir()
    (base_folder() / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=line):
        require_base()
    (base_folder() / WEIGHTS).write_bytes(b"")
    assert require_base() == tmp_path / BASE
