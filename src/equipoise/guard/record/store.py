"""`AuditRecord`: the entries in a database, SQLite by path or PostgreSQL by URL.

An entry is acknowledged when it is committed and on disk (`synchronous=FULL`), so a kill loses nothing that was
acknowledged. One thread writes what has gathered in one transaction; several processes on one database take turns by
its lock, so there is one chain.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import TimeoutError as Late
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from equipoise.errors import OutputError
from equipoise.guard.record.database import identity, opened, opened_to_read, take_turn
from equipoise.guard.record.entry import FIRST, RecordEntry, chained
from equipoise.guard.record.writer import Pending, SingleError, Stored, Writer

if TYPE_CHECKING:
    from sqlalchemy import Connection

WAIT: Final = 10.0
"""Seconds after which waiting for an entry fails."""


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
        read_only: whether it is only read: then nothing in the database is made or changed.

    Raises:
        UsageError: a URL of something else.
        OutputError: it cannot be opened.
        EquipoiseError: there is no record that can be read.
        MissingExtraError: the libraries are not installed.
    """

    def __init__(self, url: str, *, seconds: float = WAIT, read_only: bool = False) -> None:
        self._engine, self._table = opened_to_read(url) if read_only else opened(url)
        self._seconds = seconds
        self._file = identity(self._engine)
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
        now = identity(self._engine)
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
            take_turn(connection)
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
            take_turn(connection)
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
        if self._file is not None and identity(self._engine) is None:
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
