"""Whatever happens to one batch or to one who waits, the record's writer goes on and nobody waits for ever."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest

from equipoise.errors import OutputError
from equipoise.guard.record import database, writer
from equipoise.guard.record.entry import RecordEntry
from equipoise.guard.record.store import AuditRecord
from equipoise.guard.record.writer import TRIAL, SingleError, Stored, Writer


def entry(at: int = 0, more: str = "") -> RecordEntry:
    return RecordEntry(f"r{at}{more}", "2026-01-01T00:00:00Z", "/v1/x", None, "m", 200, "default", "d", [], [], 0.1)


class Disk:
    """A commit that does what a test says: raises, waits, or counts."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()
        self.raises: BaseException | None = None

    def __call__(self, texts: Sequence[str]) -> list[Stored]:
        self.entered.set()
        self.go.wait(10)
        if self.raises is not None:
            raise self.raises
        if "bad" in texts:
            raise SingleError from ValueError("bad entry")
        self.written += texts
        return [Stored(number, text) for number, text in enumerate(texts)]


@pytest.mark.parametrize("error", [RuntimeError("x"), OSError(28, "no space"), SystemExit(3), KeyboardInterrupt()])
def test_the_writer_survives_whatever_a_batch_raises(error: BaseException) -> None:
    disk = Disk()
    line = Writer(disk, seconds=5)
    disk.raises = error
    with pytest.raises(OutputError, match=type(error).__name__):
        line.send("a").done.result(5)
    assert type(error).__name__ in (line.trouble or "")
    disk.raises = None
    assert line.send("b").done.result(5).hash == "b"
    assert line.trouble is None
    assert line.close(5)


def test_one_bad_entry_fails_alone() -> None:
    disk = Disk()
    line = Writer(disk, seconds=5)
    disk.go.clear()
    first = line.send("first")
    assert disk.entered.wait(5)
    waiting = [line.send(text) for text in ("a", "bad", "c")]
    disk.go.set()
    assert first.done.result(5).hash == "first"
    assert isinstance(waiting[1].done.exception(5), OutputError)
    assert (waiting[0].done.result(5).hash, waiting[2].done.result(5).hash) == ("a", "c")
    assert disk.written == ["first", "a", "c"]
    assert line.close(5)


def test_entries_whose_callers_gave_up_are_not_written_and_stop_nobody() -> None:
    disk = Disk()
    line = Writer(disk, seconds=5)
    disk.go.clear()
    running = line.send("running")
    assert disk.entered.wait(5)
    dropped, kept = line.send("dropped"), line.send("kept")
    assert line.give_up(dropped)
    assert not line.give_up(running)
    disk.go.set()
    assert kept.done.result(5).hash == "kept"
    with pytest.raises(CancelledError):
        dropped.done.result(0)
    assert disk.written == ["running", "kept"]
    assert line.close(5)


def test_a_batch_that_hangs_is_trouble_and_closing_does_not_wait_for_it() -> None:
    disk = Disk()
    line = Writer(disk, seconds=0.02)
    disk.go.clear()
    hanging = line.send("a")
    while line.hangs < 0.02:
        time.sleep(0.001)
    behind = line.send("b")
    assert "at one batch" in (line.trouble or "")
    # Returns although the disk hangs until `go` is set below: otherwise this test would never end.
    assert not line.close(0.05)
    assert isinstance(behind.done.exception(1), OutputError)
    disk.go.set()
    assert hanging.done.result(5).hash == "a"


def test_a_thread_that_ended_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Writer(Disk(), seconds=5)
    monkeypatch.setattr(line, "_run", lambda: None)
    pending = line.send("a")
    assert line._thread is not None
    line._thread.join()
    monkeypatch.undo()
    line.send("b").done.result(5)
    assert pending.done.result(5).hash == "a"
    assert line.close(5)


def test_a_full_line_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WAITING", 2)
    disk = Disk()
    line = Writer(disk, seconds=5)
    disk.go.clear()
    line.send("running")
    assert disk.entered.wait(5)
    waiting = [line.send("a"), line.send("b")]
    with pytest.raises(OutputError, match="keeps up"):
        line.send("c")
    disk.go.set()
    assert [pending.done.result(5).hash for pending in waiting] == ["a", "b"]
    assert line.close(5)


def test_tasks_cancelled_while_they_wait_leave_their_entries_and_the_writer(tmp_path: Path) -> None:
    async def go(record: AuditRecord) -> None:
        tasks = [asyncio.create_task(record.aappend(entry(at))) for at in range(50)]
        for task in tasks:
            # After the entry is in the line, before its end is heard of.
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stored = await asyncio.wait_for(record.aappend(entry(99)), 5)
        assert record.head() == stored
        assert record.verify().problem is None

    with AuditRecord(str(tmp_path / "r.db")) as record:
        asyncio.run(go(record))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """The database in another's hands."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def test_waiting_for_a_locked_record_has_an_end(tmp_path: Path) -> None:
    with AuditRecord(str(tmp_path / "r.db"), seconds=60) as record:
        record.append(entry())
        record._seconds = record._writer._seconds = 0.2
        with locked(tmp_path / "r.db"):
            for make in (lambda: record.append(entry(1)), lambda: asyncio.run(record.aappend(entry(2)))):
                with pytest.raises(OutputError, match=r"within 0\.2 seconds"):
                    make()
            assert record.trouble is not None
        record._seconds = record._writer._seconds = 60
        record.append(entry(3))
        assert record.trouble is None
        assert record.verify().problem is None


def test_a_record_that_stays_locked_fails_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "TURN", 0.1)
    with AuditRecord(str(tmp_path / "r.db")) as record:
        with locked(tmp_path / "r.db"), pytest.raises(OutputError, match="locked"):
            record.append(entry())
        assert record.append(entry()).number == 1


def test_a_record_whose_file_is_gone_acknowledges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with AuditRecord(str(path)) as record:
        record.append(entry())
        away = tmp_path / "away"
        away.mkdir()
        for file in tmp_path.glob("r.db*"):
            file.rename(away / file.name)
        with pytest.raises(OutputError, match="gone"):
            record.append(entry(1))
        with pytest.raises(OutputError, match="gone"):
            record.head()
        assert not path.exists()
        for file in away.glob("*"):
            file.rename(tmp_path / file.name)
        assert record.append(entry(2)).number == 2
        assert record.verify().problem is None


def test_a_full_disk_fails_an_entry_and_room_lets_the_next_be_written(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with AuditRecord(str(path)) as record:
        record.append(entry())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(OutputError, match="expected to write"):
                record.append(entry(1, "x" * 300_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert record.append(entry(2)).number == 2
        assert record.verify().problem is None


def test_a_trial_fails_as_long_as_the_entry_before_would(tmp_path: Path) -> None:
    def pages(record: AuditRecord, most: int) -> None:
        with record._engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {most}")

    with AuditRecord(str(tmp_path / "r.db")) as record:
        record.append(entry())
        # The file cannot grow, but there is room for the row that trials write.
        pages(record, 1)
        asyncio.run(record.probe(5))
        with pytest.raises(OutputError, match="full"):
            record.append(entry(1, "x" * 50_000))
        for _ in range(2):
            with pytest.raises(OutputError, match="full"):
                asyncio.run(record.probe(5))
            assert record.trouble is not None
        pages(record, 10_000)
        asyncio.run(record.probe(5))
        assert record.trouble is None
        assert record.append(entry(2)).number == 2
        assert record.verify().problem is None


def test_a_trial_asks_the_thread_and_leaves_no_entry() -> None:
    disk = Disk()
    line = Writer(disk, seconds=5)
    assert line.send(None).done.result(5) == TRIAL
    assert disk.written == []
    disk.raises = OSError(28, "no space")
    with pytest.raises(OutputError, match="no space"):
        line.send(None).done.result(5)
    assert line.trouble is not None
    disk.raises = None
    assert line.send(None).done.result(5) == TRIAL
    assert line.trouble is None


def test_trials_among_entries_take_none_of_their_places() -> None:
    disk = Disk()
    disk.go.clear()
    line = Writer(disk, seconds=5)
    line.send("first")
    assert disk.entered.wait(5)
    together = [line.send(text) for text in ("a", None, "b", None, "bad", "c")]
    disk.go.set()
    results = [pending.done.exception(5) or pending.done.result(5) for pending in together]
    assert [result.hash if isinstance(result, Stored) else "error" for result in results] == [
        "a",
        "",
        "b",
        "",
        "error",
        "c",
    ]
    assert disk.written == ["first", "a", "b", "c"]
