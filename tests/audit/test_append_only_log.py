"""A log keeps whole rows, drops what a kill cut short, and notices every edit."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.audit import append_only_log
from equipoise.audit.append_only_log import AppendOnlyLog, _whole_length, fingerprint
from equipoise.errors import OutputError, UsageError


@dataclass(frozen=True)
class Note:
    """A row with a text and a list."""

    text: str
    marks: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


notes = st.builds(Note, st.text(), st.lists(st.integers(), max_size=3).map(tuple))


@pytest.fixture
def log(tmp_path: Path) -> AppendOnlyLog[Note]:
    return AppendOnlyLog(tmp_path / "run" / "notes.jsonl", Note)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(notes, max_size=3), max_size=4))
def test_rows_come_back_in_order_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Note]]
) -> None:
    log = AppendOnlyLog(tmp_path_factory.mktemp("log") / "notes.jsonl", Note)
    for batch in batches:
        log.append(batch)
    assert list(log.rows()) == [note for batch in batches for note in batch]


def test_half_a_surrogate_pair_and_line_separators_survive(log: AppendOnlyLog[Note]) -> None:
    rows = [Note("\ud800"), Note("a\u2028b\nc\rd")]
    log.append(rows)
    assert list(log.rows()) == rows
    assert log.path.read_bytes().count(b"\n") == 2


def test_a_log_that_is_not_there_is_empty_and_nothing_makes_no_file(log: AppendOnlyLog[Note]) -> None:
    log.append([])
    assert list(log.rows()) == []
    assert not log.path.exists()


def test_the_end_of_the_last_whole_row_is_found_block_by_block(
    log: AppendOnlyLog[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.audit.append_only_log.BLOCK", 7)
    log.path.parent.mkdir()
    for content, whole in ((b"", 0), (b"no line feed at all", 0), (b"a\n", 2), (b"a\nbb\n" + b"c" * 50, 5)):
        log.path.write_bytes(content)
        assert _whole_length(log.path) == whole


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_row_that_a_kill_cut_short_is_dropped_and_the_next_begins_a_line(log: AppendOnlyLog[Note], cut: int) -> None:
    log.append([Note("first"), Note("second")])
    content = log.path.read_bytes()
    log.path.write_bytes(content[:-cut])
    again = AppendOnlyLog(log.path, Note)
    assert list(again.rows()) == [Note("first")]
    again.append([Note("third")])
    assert list(again.rows()) == [Note("first"), Note("third")]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"text": "second", "marks": [], "check": "0123456789abcdef"}',
        b'{"text": "second", "marks": []}',
        b'{"text": "second", "check": 1, "more": 2}',
        b"[" * 100_000,
    ],
)
def test_a_changed_line_is_an_error_that_names_it(log: AppendOnlyLog[Note], line: bytes) -> None:
    log.append([Note("first"), Note("second"), Note("third")])
    lines = log.path.read_bytes().split(b"\n")
    log.path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    rows = log.rows()
    assert next(rows) == Note("first")
    with pytest.raises(UsageError, match="expected line 2 of"):
        next(rows)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_single_changed_letter_of_a_row_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = AppendOnlyLog(tmp_path_factory.mktemp("log") / "notes.jsonl", Note)
    log.append([Note("the reply", (1, 2))])
    content = bytearray(log.path.read_bytes())
    index = data.draw(st.integers(0, len(content) - 2))
    letter = data.draw(st.integers(0x21, 0x7E).filter(lambda code: code != content[index]))
    content[index] = letter
    log.path.write_bytes(bytes(content))
    with pytest.raises(UsageError, match="as it was written"):
        list(log.rows())


def test_threads_write_whole_rows(log: AppendOnlyLog[Note]) -> None:
    threads = [
        threading.Thread(target=lambda name=name: [log.append([Note(f"{name} {n}")]) for n in range(10)])
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [note.text for note in log.rows()]
    assert sorted(texts) == sorted(f"{name} {n}" for name in "abcd" for n in range(10))
    assert all([text for text in texts if text[0] == name] == [f"{name} {n}" for n in range(10)] for name in "abcd")


def test_a_full_disk_keeps_what_was_there_and_room_lets_it_go_on(
    log: AppendOnlyLog[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([Note("first")])

    def half(file: FileIO, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(append_only_log, "_write", half)
        with pytest.raises(OutputError, match="No space left on device; try freeing some space"):
            log.append([Note("second")])
    assert list(log.rows()) == [Note("first")]
    log.append([Note("third")])
    assert list(log.rows()) == [Note("first"), Note("third")]


def test_a_disk_that_takes_a_part_at_a_time_gets_everything(
    log: AppendOnlyLog[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FileIO):
        def write(self, data: Any) -> int:
            return super().write(bytes(data)[:7])

    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Slow(str(path), "ab"))
    log.append([Note("a text that is longer than seven bytes")])
    monkeypatch.undo()
    assert list(log.rows()) == [Note("a text that is longer than seven bytes")]


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").mkdir()
    log = AppendOnlyLog(tmp_path / "notes.jsonl", Note)
    with pytest.raises(UsageError, match="expected a file at"):
        list(log.rows())
    with pytest.raises(OutputError, match="cannot write"):
        log.append([Note("x")])


def test_every_row_is_on_the_disk_before_append_returns(
    log: AppendOnlyLog[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), real(file)))
    log.append([Note("first")])
    assert synced == [log.path.stat().st_size]


def test_a_fingerprint_depends_on_content_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint(json.loads(json.dumps({"a": "\ud800"}))) == fingerprint({"a": "\ud800"})
