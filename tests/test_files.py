"""Files are written whole or not at all, and a model folder's hash tells any change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import (
    EquipoiseError,
    MissingExtraError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    PictureError,
    UsageError,
    out_of_memory,
)
from equipoise.files import folder_hash, read_json_lines, weights_hash, write_json, write_whole


@given(st.text() | st.binary())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    path = tmp_path_factory.mktemp("files") / "below" / "file"
    write_whole(path, content)
    expected = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    assert path.read_bytes() == expected
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_half_a_surrogate_pair_in_json_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"reply": "\ud800 and \u00e9"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"reply": "\ud800 and \u00e9"}


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_before_the_file_is_in_place_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_what_a_kill_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_text("half of something")
    write_whole(tmp_path / "file", "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="expected to write") as refused:
            write_whole(path, "x")
        assert "\n" not in str(refused.value)


def test_json_without_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def model_folder(path: Path) -> Path:
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "config.json").write_text("{}")
    (path / "chat_template.jinja").write_text("{{ x }}")
    return path


def test_a_copy_has_the_same_hash_and_notes_are_no_part_of_it(tmp_path: Path) -> None:
    one, other = model_folder(tmp_path / "one"), model_folder(tmp_path / "other")
    (other / "README.md").write_text("notes")
    (other / "LICENSE.txt").write_text("licence")
    (other / "sub").mkdir()
    (other / "sub" / "more.json").write_text("{}")
    assert folder_hash(one) == folder_hash(other)
    assert folder_hash(one).startswith("sha256:")
    assert folder_hash(one, deep=True) != folder_hash(other, deep=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(b"Weights"),
        lambda folder: (folder / "config.json").write_text("{} "),
        lambda folder: (folder / "chat_template.jinja").unlink(),
        lambda folder: (folder / "more.bin").write_bytes(b""),
        *(
            lambda folder, name=name: (folder / name).write_text("a b")
            for name in ("tokenizer.model", "spiece.model", "qwen.tiktoken", "vocab.txt", "merges.txt")
        ),
        lambda folder: (folder / "config.json").rename(folder / "other.json"),
    ],
)
def test_every_change_of_weights_and_settings_shows(tmp_path: Path, change: object) -> None:
    folder = model_folder(tmp_path / "model")
    before = folder_hash(folder)
    change(folder)  # type: ignore[operator]
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert folder_hash(folder) != before


def test_what_is_no_file_is_no_part_of_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    before = folder_hash(folder), folder_hash(folder, deep=True), weights_hash(folder)
    (folder / "extra.json").symlink_to(tmp_path / "nowhere.json")
    (folder / "more.safetensors").symlink_to(tmp_path / "nowhere.safetensors")
    (folder / "folder.bin").mkdir()
    assert (folder_hash(folder), folder_hash(folder, deep=True), weights_hash(folder)) == before


def test_bytes_that_move_from_one_file_to_the_next_show(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, parts in ((one, (b"ab", b"c")), (other, (b"a", b"bc"))):
        folder.mkdir()
        for name, content in zip(("a.bin", "b.bin"), parts, strict=True):
            (folder / name).write_bytes(content)
    assert folder_hash(one) != folder_hash(other)


def test_every_error_has_its_exit_code() -> None:
    codes = {UsageError: 2, PictureError: 3, ModelError: 4, OutOfMemoryError: 4, OutputError: 5, MissingExtraError: 6}
    assert {kind: kind.exit_code for kind in codes} == codes
    assert all(issubclass(kind, EquipoiseError) for kind in codes)
    assert issubclass(UsageError, ValueError)


def test_an_error_of_memory_is_known_by_its_name() -> None:
    fake = type("OutOfMemoryError", (RuntimeError,), {})
    assert out_of_memory(fake())
    assert out_of_memory(MemoryError())
    assert out_of_memory(OutOfMemoryError("full"))
    assert not out_of_memory(RuntimeError("CUDA out of memory"))


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), "whole")
    assert [(len(file.name), file.read_text()) for file in tmp_path.iterdir()] == [(255, "whole")]


def test_only_line_feeds_end_a_line_of_json(tmp_path: Path) -> None:
    values = [{"text": "one\u2028two\x85three\x0bfour"}, [1], "five\u2029"]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n\n", encoding="utf-8")
    assert read_json_lines(file) == values
