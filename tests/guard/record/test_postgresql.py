"""The record in a real PostgreSQL server, started for the test; skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from equipoise.errors import EquipoiseError, OutputError
from equipoise.guard.record.store import AuditRecord
from tests.guard.record.test_store import entry

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
USER = "postgres"


def run(*words: object, as_user: bool = True) -> None:
    """As the server's own user: it refuses to run as root."""
    front = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if as_user and os.getuid() == 0 else []
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/tmp"}
    done = subprocess.run([*front, *map(str, words)], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if not PROGRAMS:
        pytest.skip("no PostgreSQL server on this machine; try apt install postgresql")
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    programs = PROGRAMS[-1].parent
    # Not below pytest's own folder, which is closed to other users, and short: a socket's path is limited.
    folder = Path(tempfile.mkdtemp(prefix="eqpg"))
    if os.getuid() == 0:
        shutil.chown(folder, USER, USER)
    data = folder / "data"
    run(programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=on"
    run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql://{USER}@/postgres?host={folder}"
    run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_one_chain_for_all_writers(server: str) -> None:
    with AuditRecord(server) as one, AuditRecord(server) as two, ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda at: (one, two)[at % 2].append(entry(at)).number, range(60)))
        assert sorted(numbers) == list(range(1, 61))
        assert one.verify(two.head().hash).problem is None


def test_reading_changes_nothing(server: str) -> None:
    with AuditRecord(server) as record:
        head = record.append(entry())
    with AuditRecord(server, read_only=True) as reading:
        assert reading.head() == head
        assert reading.verify(head.hash).problem is None
        with pytest.raises(OutputError, match="read-only"):
            reading.append(entry(1))
    with pytest.raises(EquipoiseError, match="expected a record that can be read"):
        AuditRecord(server.replace("/postgres?", "/template1?"), read_only=True)


def test_changes_are_forbidden_and_found(server: str) -> None:
    import psycopg

    with AuditRecord(server) as record:
        record.append(entry())
    with psycopg.connect(server, autocommit=True) as connection:
        for statement in (
            "UPDATE equipoise_record SET entry = ''",
            "DELETE FROM equipoise_record",
            "TRUNCATE equipoise_record",
        ):
            with pytest.raises(psycopg.Error, match="append-only"):
                connection.execute(statement)
        connection.execute("DROP TRIGGER equipoise_append_only ON equipoise_record")
        connection.execute("UPDATE equipoise_record SET entry = '{}' WHERE number = 1")
    with AuditRecord(server) as record:
        assert "not what was written" in (record.verify().problem or "")
