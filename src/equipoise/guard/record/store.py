"""`AuditRecord`: the entries in a database, SQLite by path or PostgreSQL by URL.

An entry is acknowledged when it is committed and on disk (`synchronous=FULL`), so a kill loses nothing that was
acknowledged. One thread writes what has gathered in one transaction; several processes on one database take turns by
its lock, so there is one chain.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from equipoise.errors import MissingExtraError, OutputError, UsageError
from equipoise.guard.record.entry import FIRST, RecordEntry, chained

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

GROUP: Final = 256
"""Entries in one transaction, at most."""
LOCK: Final = 0x65717569
"""Of PostgreSQL's advisory lock: one writer at a time."""


@dataclass(frozen=True)
class RecordPosition:
    """Where an entry is."""

    number: int
    """From 1 on, without gaps."""
    hash: str
    """Over it and all before it."""


@dataclass(frozen=True)
class RecordVerification:
    """Whether the record is as it was written."""

    entries: int
    """How many are in order from the first on."""
    head: str
    """The hash of the last of these. Kept elsewhere, it shows whether later ones were cut off."""
    problem: str | None
    """What is wrong with the next one; None if nothing is."""


class AuditRecord:
    """Appends entries and reads them again.

    Args:
        url: a file for SQLite, `sqlite:///FILE` or `postgresql://...`.

    Raises:
        UsageError: a URL of something else.
        OutputError: it cannot be opened.
        MissingExtraError: the libraries are not installed.
    """

    def __init__(self, url: str) -> None:
        self._engine, self._table = _opened(url)
        self._waiting: queue.Queue[tuple[str, Future[RecordPosition]] | None] = queue.Queue(maxsize=4096)
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="record", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        """The record itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def append(self, entry: RecordEntry) -> RecordPosition:
        """Write an entry; returns when it is on disk.

        Raises:
            OutputError: it could not be written.
        """
        return self._send(entry).result()

    async def aappend(self, entry: RecordEntry) -> RecordPosition:
        """`append` for an event loop."""
        return await asyncio.wrap_future(self._send(entry))

    def _send(self, entry: RecordEntry) -> Future[RecordPosition]:
        done: Future[RecordPosition] = Future()
        if self._closed:
            raise OutputError("expected an open record, got a closed one")
        try:
            self._waiting.put_nowait((entry.canonical(), done))
        except queue.Full as error:
            raise OutputError("expected a record that keeps up, got 4096 entries waiting; try a faster disk") from error
        return done

    def close(self) -> None:
        """Write what waits, and close."""
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
            self._writer.join()
            self._engine.dispose()

    def _write(self) -> None:
        over = False
        while not over:
            group = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(group) < GROUP:
                    group.append(self._waiting.get_nowait())
            over = None in group
            entries = [each for each in group if each is not None]
            if not entries:
                continue
            try:
                stored = self._commit([text for text, _ in entries])
            except Exception as error:  # noqa: BLE001 - whatever a driver raises, its callers must hear of it
                for _, done in entries:
                    done.set_exception(
                        OutputError(f"expected to write the record, got {type(error).__name__}: {error}")
                    )
                continue
            for (_, done), each in zip(entries, stored, strict=True):
                done.set_result(each)

    def _commit(self, texts: list[str]) -> list[RecordPosition]:
        from sqlalchemy import insert

        with self._engine.begin() as connection:
            _take_turn(connection)
            last = self._last(connection)
            stored: list[RecordPosition] = []
            for text in texts:
                last = RecordPosition(last.number + 1, chained(last.hash, text))
                stored.append(last)
            rows = [
                {"number": each.number, "entry": text, "hash": each.hash}
                for each, text in zip(stored, texts, strict=True)
            ]
            connection.execute(insert(self._table), rows)
        return stored

    def _last(self, connection: Connection) -> RecordPosition:
        from sqlalchemy import select

        columns = self._table.c
        found = connection.execute(
            select(columns.number, columns.hash).order_by(columns.number.desc()).limit(1)
        ).first()
        return RecordPosition(0, FIRST) if found is None else RecordPosition(found.number, found.hash)

    def head(self) -> RecordPosition:
        """The last entry."""
        with self._engine.connect() as connection:
            return self._last(connection)

    def rows(self, start: int = 1) -> Generator[tuple[int, str, str], None, None]:
        """Number, canonical JSON and hash of the entries from one on, in order."""
        from sqlalchemy import select

        columns = self._table.c
        query = (
            select(columns.number, columns.entry, columns.hash).where(columns.number >= start).order_by(columns.number)
        )
        with self._engine.connect().execution_options(yield_per=500) as connection:
            found = connection.execute(query)
            try:
                yield from (tuple(row) for row in found)
            finally:
                found.close()

    def verify(self, head: str | None = None) -> RecordVerification:
        """Compute the chain again.

        Args:
            head: a hash that was kept elsewhere; it must be among those found.
        """
        last = RecordPosition(0, FIRST)
        seen = head is None or head == FIRST
        # Closed at once where it stops early: the server holds a cursor.
        with closing(self.rows()) as rows:
            return self._followed(rows, last, head, seen)

    @staticmethod
    def _followed(
        rows: Iterator[tuple[int, str, str]], last: RecordPosition, head: str | None, seen: bool
    ) -> RecordVerification:
        for number, entry, found in rows:
            if number != last.number + 1:
                return RecordVerification(last.number, last.hash, f"entry {last.number + 1} is missing")
            if chained(last.hash, entry) != found:
                return RecordVerification(last.number, last.hash, f"entry {number} is not what was written")
            last = RecordPosition(number, found)
            seen = seen or found == head
        problem = None if seen else "the head that was kept is not in the record: it was cut off or written anew"
        return RecordVerification(last.number, last.hash, problem)


def _opened(url: str) -> tuple[Engine, Table]:
    try:
        from sqlalchemy import Column, Integer, MetaData, Text, create_engine
        from sqlalchemy import Table as MakeTable
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[guard]'") from error
    if "://" not in url:
        url = f"sqlite:///{url}"
    if not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise UsageError(f"expected a file or a postgresql:// URL for the record, got {_hidden(url)}; try record.db")
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    metadata = MetaData()
    table = MakeTable(
        "equipoise_record",
        metadata,
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("entry", Text, nullable=False),
        Column("hash", Text, nullable=False, unique=True),
    )
    try:
        # A server without an encoding of its own would answer in bytes.
        options: dict[str, Any] = {"timeout": 30} if url.startswith("sqlite") else {"client_encoding": "utf8"}
        engine = create_engine(url, connect_args=options)
        _prepared(engine)
        with engine.begin() as connection:
            _take_turn(connection)
            metadata.create_all(connection)
            _forbid_changes(connection)
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[postgresql]'") from error
    except SQLAlchemyError as error:
        raise OutputError(f"expected a record that can be written, got {_hidden(url)}: {_brief(error)}") from error
    return engine, table


def _prepared(engine: Engine) -> None:
    """SQLite: readers beside the writer, and nothing acknowledged before it is on disk."""
    from sqlalchemy import event

    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")


def _take_turn(connection: Connection) -> None:
    """One writer at a time, of however many processes."""
    from sqlalchemy import text

    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def _forbid_changes(connection: Connection) -> None:
    """Whoever changes an entry by accident is stopped; who does it on purpose is found by the chain."""
    if connection.dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER IF NOT EXISTS equipoise_record_{action.lower()} BEFORE {action} ON equipoise_record "
                "BEGIN SELECT RAISE(ABORT, 'the record is append-only'); END"
            )
        return
    connection.exec_driver_sql(
        "CREATE OR REPLACE FUNCTION equipoise_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the record is append-only'; END $$"
    )
    connection.exec_driver_sql("DROP TRIGGER IF EXISTS equipoise_append_only ON equipoise_record")
    connection.exec_driver_sql(
        "CREATE TRIGGER equipoise_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON equipoise_record "
        "FOR EACH STATEMENT EXECUTE FUNCTION equipoise_append_only()"
    )


def _hidden(url: str) -> str:
    """A URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else url


def _brief(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]
