"""The record: every change is found, nothing acknowledged is lost, no words are kept unless asked for."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from equipoise.errors import EquipoiseError, OutputError, UsageError
from equipoise.guard.decision import GuardDecision, sha256
from equipoise.guard.record.entry import FIRST, RecordEntry, chained, describe_decision
from equipoise.guard.record.store import AuditRecord


def entry(at: int = 0) -> RecordEntry:
    return RecordEntry(f"r{at}", "2026-01-01T00:00:00Z", "/v1/x", None, "m", 200, "default", "d", [], [], 0.1)


def filled(path: Path, count: int = 5) -> str:
    with AuditRecord(str(path)) as record:
        for at in range(count):
            assert record.append(entry(at)).number == at + 1
        return record.head().hash


def changed(path: Path, *statements: str) -> None:
    """By somebody with the file in his hands."""
    with sqlite3.connect(path) as connection:
        for action in ("update", "delete"):
            connection.execute(f"DROP TRIGGER equipoise_record_{action}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_an_untouched_record_verifies(tmp_path: Path) -> None:
    head = filled(tmp_path / "r.db")
    with AuditRecord(f"sqlite:///{tmp_path / 'r.db'}") as record:
        verification = record.verify(head)
        assert (verification.entries, verification.head, verification.problem) == (5, head, None)
        assert record.append(entry(9)).number == 6
        assert record.verify(head).problem is None


@pytest.mark.parametrize(
    ("statement", "entries", "says"),
    [
        (
            "UPDATE equipoise_record SET entry = replace(entry, '200', '201') WHERE number = 3",
            2,
            "not what was written",
        ),
        ("UPDATE equipoise_record SET hash = 'x' WHERE number = 3", 2, "not what was written"),
        ("DELETE FROM equipoise_record WHERE number = 3", 2, "is missing"),
        ("DELETE FROM equipoise_record WHERE number = 1", 0, "is missing"),
        ("DELETE FROM equipoise_record WHERE number = 5", 4, "cut off"),
        ("INSERT INTO equipoise_record VALUES (6, '{}', 'y')", 5, "not what was written"),
    ],
)
def test_every_change_is_found(tmp_path: Path, statement: str, entries: int, says: str) -> None:
    head = filled(tmp_path / "r.db")
    changed(tmp_path / "r.db", statement)
    with AuditRecord(str(tmp_path / "r.db")) as record:
        verification = record.verify(head)
    assert verification.entries == entries
    assert says in (verification.problem or "")


def test_two_entries_that_change_places_are_found(tmp_path: Path) -> None:
    filled(tmp_path / "r.db")
    changed(
        tmp_path / "r.db",
        "UPDATE equipoise_record SET number = 99 WHERE number = 2",
        "UPDATE equipoise_record SET number = 2 WHERE number = 3",
        "UPDATE equipoise_record SET number = 3 WHERE number = 99",
    )
    with AuditRecord(str(tmp_path / "r.db")) as record:
        assert record.verify().entries == 1


def test_the_database_itself_forbids_changes(tmp_path: Path) -> None:
    filled(tmp_path / "r.db")
    connection = sqlite3.connect(tmp_path / "r.db")
    for statement in ("UPDATE equipoise_record SET entry = ''", "DELETE FROM equipoise_record"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_threads_and_processes_share_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with AuditRecord(str(path)) as one, AuditRecord(str(path)) as two, ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda at: (one, two)[at % 2].append(entry(at)).number, range(80)))
        assert sorted(stored) == list(range(1, 81))
        assert one.verify().problem is None


CHILD = """
import sys
from equipoise.guard.record.entry import RecordEntry
from equipoise.guard.record.store import AuditRecord
record = AuditRecord(sys.argv[1])
at = 0
while True:
    stored = record.append(RecordEntry(f"r{at}", "t", "/", None, None, 200, "p", "d", [], [], 0.0))
    print(stored.number, stored.hash, flush=True)
    at += 1
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    for round_ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        lines: list[str] = []
        reader = threading.Thread(target=lambda into=lines, out=child.stdout: into.extend(out or []))
        reader.start()
        while len(lines) < 20 + 7 * round_:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()
        with AuditRecord(str(path)) as record:
            assert record.verify().problem is None
            known = {str(number): digest for number, _, digest in record.rows()}
        whole = [line.split() for line in lines if line.endswith("\n")]
        assert whole
        assert all(known[number] == digest for number, digest in whole)


def test_no_words_are_kept_unless_asked_for(tmp_path: Path) -> None:
    decision = GuardDecision(
        "rewrite", "quite another secret", 0.9, "d", "d says 0.900", original=sha256("first secret")
    )
    for keep in (False, True):
        path = tmp_path / f"{keep}.db"
        with AuditRecord(str(path)) as record:
            description = describe_decision(decision, "first secret", keep_text=keep)
            record.append(RecordEntry("r", "t", "/", None, None, 200, "p", "d", [description], [], 0.0))
        data = b"".join(file.read_bytes() for file in tmp_path.glob(f"{keep}.db*"))
        assert (b"first secret" in data) is keep
        assert (b"another secret" in data) is keep
        assert sha256("first secret").encode() in data


def test_the_chain_is_what_its_definition_says() -> None:
    first = chained(FIRST, entry(0).canonical())
    assert first != chained(FIRST, entry(1).canonical())
    assert chained(first, entry(1).canonical()) != chained(FIRST, entry(1).canonical())
    assert entry().canonical() == entry().canonical()


def test_what_cannot_be_opened_is_one_error_without_passwords(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="record") as raised:
        AuditRecord("mysql://me:secret@host/db")
    assert "secret" not in str(raised.value)
    for nothing in ("", "sqlite:///"):
        with pytest.raises(UsageError, match="expected a file or a postgresql:// URL"):
            AuditRecord(nothing)
    with pytest.raises(OutputError, match="expected a record"):
        AuditRecord(str(tmp_path / "no" / "folder" / "r.db"))
    (tmp_path / "text.db").write_text("this is no database " * 100)
    with pytest.raises(OutputError, match="expected a record"):
        AuditRecord(str(tmp_path / "text.db"))
    with pytest.raises(OutputError) as refused:
        AuditRecord("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(refused.value)


def test_a_record_that_cannot_be_written_says_so_to_everybody_who_waits(tmp_path: Path) -> None:
    with AuditRecord(str(tmp_path / "r.db")) as record:
        record.append(entry())
        changed(tmp_path / "r.db", "DROP TABLE equipoise_record")
        with pytest.raises(OutputError, match="expected to write"):
            record.append(entry(1))
    with pytest.raises(OutputError, match="closed"):
        record.append(entry(2))


@pytest.mark.parametrize(
    "columns", ["number INTEGER, text TEXT", "id INTEGER", "number INTEGER, entry TEXT, hash_ TEXT"]
)
def test_a_database_with_another_table_of_this_name_is_no_record(tmp_path: Path, columns: str) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute(f"CREATE TABLE equipoise_record ({columns})")
    connection.close()
    with pytest.raises(OutputError, match=r"expected a record that can be written, got .*other\.db: no such column"):
        AuditRecord(str(tmp_path / "other.db"))


@pytest.mark.parametrize("value", [None, b"bytes", 7])
def test_an_entry_that_is_no_text_is_not_what_was_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE equipoise_record (number INTEGER, entry, hash)")
        connection.execute("INSERT INTO equipoise_record VALUES (1, ?, 'x')", (value,))
    connection.close()
    with AuditRecord(str(path)) as record:
        assert record.verify().problem == "entry 1 is not what was written"


def test_reading_changes_no_file_and_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "a record #1?.db"
    with AuditRecord(str(path)) as record:
        stored = record.append(entry())
        # While a gateway has it open its last entries are in another file.
        with AuditRecord(str(path), read_only=True) as reading:
            assert reading.head() == stored
            assert reading.verify(stored.hash).problem is None
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with AuditRecord(str(path), read_only=True) as reading:
        assert (reading.head(), reading.verify().entries, len(list(reading.rows()))) == (stored, 1, 1)
        with pytest.raises(OutputError):
            reading.append(entry(1))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("statements", [["DROP TABLE equipoise_record"], [], ["CREATE TABLE t (a)"]])
def test_a_database_without_the_table_is_no_record_that_can_be_read(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "r.db"
    if statements and "DROP" in statements[0]:
        with AuditRecord(str(path)) as record:
            record.append(entry())
    path.touch()
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        EquipoiseError, match=r"expected a record that can be read, got .*r\.db: no such table"
    ) as raised:
        AuditRecord(str(path), read_only=True)
    assert raised.value.exit_code == 1
    assert path.read_bytes() == before
