"""The folder of the reference base model: where the user says, else in the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.errors import ModelError
from equipoise.models.reference_base import BASE, FILES, VARIABLE, WEIGHTS, base_folder, require_base
from tests.reference.tiny_base import write_placeholder_base


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
    with pytest.raises(ModelError, match=line):
        require_base()
    base_folder().rmdir()
    assert require_base_of(tmp_path) == tmp_path / BASE


def require_base_of(cache: Path) -> Path:
    write_placeholder_base(cache / BASE)
    return require_base()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_is_a_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (require_base_of(tmp_path) / name).unlink()
    with pytest.raises(
        ModelError, match=rf"damaged copy in .* \(no {name}\); try equipoise reference install --force$"
    ):
        require_base()


@pytest.mark.parametrize("content", [b"", b"12345", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"[]", b"\x40" + b"\0" * 7])
def test_weights_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (require_base_of(tmp_path) / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match=r"^expected [^\n]*, got a damaged copy [^\n]*; try [^\n]* --force$"):
        require_base()


@pytest.mark.parametrize("config", ["damaged", "[]", "[" * 100_000])
def test_settings_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (require_base_of(tmp_path) / "config.json").write_text(config)
    with pytest.raises(ModelError, match=r"^expected [^\n]*, got a damaged copy [^\n]*; try [^\n]* --force$"):
        require_base()
