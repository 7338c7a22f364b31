"""`AuditRecord`: the entries in a database, SQLite by path or PostgreSQL by URL.

An entry is acknowledged when it is committed and on disk (`synchronous=FULL`), so a kill loses nothing that was
acknowledged. One thread writes what has gathered in one transaction; several processes on one database take turns by
its lock, so there is one chain.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from equipoise.errors import MissingExtraError, OutputError, UsageError
from equipoise.guard.record.entry import FIRST, RecordEntry, chained
from equipoise.guard.record.writer import Pending, SingleError, Stored, Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

WAIT: Final = 10.0
"""Seconds after which waiting for an entry fails."""
TURN: Final = 5.0
"""Seconds for which a batch waits for another process's, or for a server that does not answer."""
LOCK: Final = 0x65717569
"""Of PostgreSQL's advisory lock: one writer at a time."""


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
        seconds: within which an entry must be on disk.

    Raises:
        UsageError: a URL of something else.
        OutputError: it cannot be opened.
        MissingExtraError: the libraries are not installed.
    """

    def __init__(self, url: str, *, seconds: float = WAIT) -> None:
        self._engine, self._table = _opened(url)
        self._seconds = seconds
        self._file = _identity(self._engine)
        self._refused = 0
        """Characters of the longest entry of the last batch, if the database took none of it."""
        self._writer = Writer(self._commit, seconds=seconds)

    def __enter__(self) -> Self:
        """The record itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def trouble(self) -> str | None:
        """Why entries cannot be written now; None where they can."""
        return self._writer.trouble

    @property
    def hangs(self) -> float:
        """Seconds for which the writer has been at one batch; 0 where it is at none."""
        return self._writer.hangs

    def append(self, entry: RecordEntry) -> Stored:
        """Write an entry; returns when it is on disk.

        Raises:
            OutputError: it could not be written, or not in time.
        """
        pending = self._writer.send(entry.canonical())
        try:
            return pending.done.result(self._seconds)
        except Late:
            raise self._late(pending, self._seconds) from None

    async def aappend(self, entry: RecordEntry) -> Stored:
        """`append` for an event loop. A task that is cancelled while it waits leaves its entry to be written."""
        return await self.aappend_text(entry.canonical())

    async def aappend_text(self, entry: str) -> Stored:
        """The same of an entry in its canonical form."""
        return await self._sent(entry, self._seconds)

    async def probe(self, seconds: float) -> None:
        """Let the writer commit a transaction that is no entry: the thread, the lock and the disk are asked.

        Raises:
            OutputError: an entry could not be written now, or not in time.
        """
        await self._sent(None, seconds)

    async def _sent(self, text: str | None, seconds: float) -> Stored:
        pending = self._writer.send(text)
        waiting = asyncio.wrap_future(pending.done)
        # Cancelling the wrapped future would cancel the entry; nobody may be there to hear of its failure.
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), seconds)
        except TimeoutError:
            raise self._late(pending, seconds) from None

    def _late(self, pending: Pending, seconds: float) -> OutputError:
        """The error after too long a wait; an entry that is not being written yet is removed."""
        taken = self._writer.give_up(pending)
        what = "taken back" if taken else "perhaps written later"
        return OutputError(f"expected an entry on disk within {seconds:g} seconds; it is {what}")

    def close(self) -> None:
        """Write what waits, as far as that can be done in time, and close."""
        if self._writer.close(self._seconds):
            self._engine.dispose()

    def _commit(self, texts: Sequence[str]) -> list[Stored]:
        """Write a batch in one transaction.

        Raises:
            SingleError: one of its entries cannot be written; other errors are of the database.
        """
        from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

        self._same_file()
        try:
            if self._refused and not texts:
                self._rehearse()
            stored = self._inserted(texts)
        # These are of the server or the disk and hit the whole batch. Anything else is taken for the fault of one
        # entry, and the writer tries them one by one.
        except (OperationalError, InternalError, InterfaceError, OSError):
            self._refused = max(map(len, texts), default=self._refused)
            raise
        except Exception as error:
            raise SingleError from error
        self._refused = 0
        return stored

    def _same_file(self) -> None:
        """A file that was removed or replaced would take entries through connections that are open, and lose them.

        Raises:
            OutputError: there is no file any more.
        """
        if self._file is None:
            return
        now = _identity(self._engine)
        if now != self._file:
            # A process can go on writing to a file that has no name any more; SQLite would report success.
            self._engine.dispose()
            if now is None:
                raise OutputError("the record's file is gone")
            self._file = now

    def _inserted(self, texts: Sequence[str]) -> list[Stored]:
        from sqlalchemy import insert, text

        with self._engine.begin() as connection:
            # First the lock, then the last entry: read before the lock, another process could append in between, and
            # two entries would follow the same one. Each hash covers the hash before it, so the chain would fork.
            _take_turn(connection)
            if not texts:
                # A trial writes, since reading works on a full disk as well; the row is outside of the chain.
                connection.execute(text("UPDATE equipoise_probe SET written = written + 1"))
                return []
            last = self._last(connection)
            stored: list[Stored] = []
            for entry in texts:
                last = Stored(last.number + 1, chained(last.hash, entry))
                stored.append(last)
            rows = [
                {"number": location.number, "entry": entry, "hash": location.hash}
                for location, entry in zip(stored, texts, strict=True)
            ]
            connection.execute(insert(self._table), rows)
        return stored

    def _rehearse(self) -> None:
        """After a batch that the database did not take: insert as much as that, and take it back.

        PostgreSQL writes a small row anew within the page that it is on, also where the disk has no room for another
        page. Without this the trial would succeed between two entries that fail.
        """
        from sqlalchemy import insert

        # A transaction of its own: SQLite ends the one in which it finds no room.
        with self._engine.connect() as connection:
            _take_turn(connection)
            # Digits at random, since equal ones would be packed to next to nothing.
            entry, digest = secrets.token_hex(self._refused // 2 + 1), secrets.token_hex(32)
            number = self._last(connection).number + 1
            connection.execute(insert(self._table), {"number": number, "entry": entry, "hash": digest})
            connection.rollback()

    def _last(self, connection: Connection) -> Stored:
        from sqlalchemy import select

        columns = self._table.c
        row = connection.execute(select(columns.number, columns.hash).order_by(columns.number.desc()).limit(1)).first()
        return Stored(0, FIRST) if row is None else Stored(row.number, row.hash)

    def head(self) -> Stored:
        """The last entry.

        Raises:
            OutputError: its file is gone.
        """
        if self._file is not None and _identity(self._engine) is None:
            raise OutputError("the record's file is gone")
        with self._engine.connect() as connection:
            return self._last(connection)

    def rows(self, start: int = 1) -> Generator[tuple[int, str, str], None, None]:
        """Number, canonical JSON and hash of the entries from one on, in order."""
        from sqlalchemy import select

        columns = self._table.c
        query = (
            select(columns.number, columns.entry, columns.hash).where(columns.number >= start).order_by(columns.number)
        )
        # In portions, by a cursor of the server: a record may be larger than the memory.
        with self._engine.connect().execution_options(yield_per=500) as connection:
            result = connection.execute(query)
            try:
                yield from (tuple(row) for row in result)
            finally:
                result.close()

    def verify(self, head: str | None = None) -> RecordVerification:
        """Compute the chain again.

        Args:
            head: a hash that was kept elsewhere; it must be among those found.
        """
        last = Stored(0, FIRST)
        has_head = head is None or head == FIRST
        # The chain shows changed and missing entries, but not that the last ones were cut off: a shorter chain is a
        # valid chain. Only a head that was kept elsewhere shows that.
        # Closed at once where it stops early: the server holds a cursor.
        with closing(self.rows()) as rows:
            return self._followed(rows, last, head, has_head)

    @staticmethod
    def _followed(
        rows: Iterator[tuple[int, str, str]], last: Stored, head: str | None, has_head: bool
    ) -> RecordVerification:
        for number, entry, digest in rows:
            if number != last.number + 1:
                return RecordVerification(last.number, last.hash, f"entry {last.number + 1} is missing")
            if not isinstance(entry, str) or chained(last.hash, entry) != digest:
                return RecordVerification(last.number, last.hash, f"entry {number} is not what was written")
            last = Stored(number, digest)
            has_head = has_head or digest == head
        problem = None if has_head else "the head that was kept is not in the record: it was cut off or written anew"
        return RecordVerification(last.number, last.hash, problem)


def _opened(url: str) -> tuple[Engine, Table]:
    try:
        from sqlalchemy import Column, Integer, MetaData, Text, create_engine, select
        from sqlalchemy import Table as MakeTable
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[guard]'") from error
    if "://" not in url:
        url = f"sqlite:///{url}"
    # Without a name SQLite would keep the record in memory, and lose it.
    if url == "sqlite:///" or not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
        raise UsageError(f"expected a file or a postgresql:// URL for the record, got {_hidden(url)}; try record.db")
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    metadata = MetaData()
    table = MakeTable(
        "equipoise_record",
        metadata,
        # Counted by us: a counter of the database skips the numbers of transactions that failed, and a gap would look
        # like a removed entry.
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("entry", Text, nullable=False),
        Column("hash", Text, nullable=False, unique=True),
    )
    try:
        # A server without an encoding of its own would answer in bytes.
        options: dict[str, Any] = (
            {"timeout": TURN}
            if url.startswith("sqlite")
            # `connect_timeout` is in seconds, `tcp_user_timeout` in milliseconds.
            else {"client_encoding": "utf8", "connect_timeout": int(TURN), "tcp_user_timeout": int(TURN * 1000)}
        )
        # A server that was started anew has closed the connections that wait in the pool: each is tried before its use.
        engine = create_engine(url, connect_args=options, pool_pre_ping=not url.startswith("sqlite"), pool_timeout=TURN)
        _prepared(engine)
        with engine.begin() as connection:
            _take_turn(connection)
            metadata.create_all(connection)
            _prepare_probe(connection)
            _forbid_changes(connection)
            # Fails here, where a table of this name has other columns.
            connection.execute(select(table).limit(0))
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
        # Without this, Python's sqlite3 begins transactions by itself; `_take_turn` has to, with the lock.
        connection.isolation_level = None
        # WAL lets readers go on beside a writer. Its default `synchronous=NORMAL` would let the last transactions be
        # lost with the power, after they were acknowledged.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")


def _identity(engine: Engine) -> tuple[int, int] | None:
    """Device and number of SQLite's file; None where there is none, as with a server."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    try:
        status = os.stat(Path(name))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _take_turn(connection: Connection) -> None:
    """One writer at a time, of however many processes."""
    from sqlalchemy import text

    if connection.dialect.name == "sqlite":
        # A plain BEGIN takes the write lock at the first write only, after the last entry was read.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # The advisory lock ends with the transaction, also where the process dies.
        connection.execute(text(f"SET LOCAL lock_timeout = {int(TURN * 1000)}"))
        connection.execute(text(f"SET LOCAL statement_timeout = {int(TURN * 1000)}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})


def _prepare_probe(connection: Connection) -> None:
    """A table of one row, which trials write to."""
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS equipoise_probe (written BIGINT NOT NULL)")
    connection.exec_driver_sql("INSERT INTO equipoise_probe SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM equipoise_probe)")


def _forbid_changes(connection: Connection) -> None:
    """Triggers that reject accidental changes of entries; the chain reveals deliberate ones."""
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
