"""The database of a record: how it is opened to write and to read, and what keeps it append-only."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from equipoise.errors import EquipoiseError, MissingExtraError, OutputError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Table

TURN: Final = 5.0
"""Seconds for which a batch waits for another process's, or for a server that does not answer."""
LOCK: Final = 0x65717569
"""Of PostgreSQL's advisory lock: one writer at a time."""
_SERVER: Final[dict[str, Any]] = {
    # A server without an encoding of its own would answer in bytes.
    "client_encoding": "utf8",
    # In seconds, and in milliseconds.
    "connect_timeout": int(TURN),
    "tcp_user_timeout": int(TURN * 1000),
}


def opened(url: str) -> tuple[Engine, Table]:
    """A record's database and its table, made where there is none.

    Raises:
        UsageError: a URL of something else.
        OutputError: it cannot be written.
        MissingExtraError: the libraries are not installed.
    """
    url, metadata, table = _described(url)
    from sqlalchemy import create_engine, select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        options: dict[str, Any] = {"timeout": TURN} if url.startswith("sqlite") else _SERVER
        # A server that was started anew has closed the connections that wait in the pool: each is tried before its use.
        engine = create_engine(url, connect_args=options, pool_pre_ping=not url.startswith("sqlite"), pool_timeout=TURN)
        _prepared(engine)
        with engine.begin() as connection:
            take_turn(connection)
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


def opened_to_read(url: str) -> tuple[Engine, Table]:
    """The same of a record that is only read: nothing in the database is made or changed.

    Raises:
        UsageError: a URL of something else.
        EquipoiseError: there is no record, or it cannot be read.
        MissingExtraError: the libraries are not installed.
    """
    url, _, table = _described(url)
    from sqlalchemy import create_engine, event, make_url, select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if url.startswith("sqlite"):
            path = Path(str(make_url(url).database))
            engine = create_engine(url, creator=lambda: _connected_to_read(path))
        else:
            engine = create_engine(url, connect_args=_SERVER, pool_pre_ping=True, pool_timeout=TURN)

            @event.listens_for(engine, "connect")
            def _(connection: Any, _record: Any) -> None:
                connection.read_only = True

        try:
            with engine.connect() as connection:
                connection.execute(select(table).limit(0))
        except BaseException:
            engine.dispose()
            raise
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[postgresql]'") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise EquipoiseError(f"expected a record that can be read, got {_hidden(url)}: {_brief(error)}") from error
    return engine, table


def _connected_to_read(path: Path) -> sqlite3.Connection:
    """A connection to SQLite's file that changes neither it nor what lies beside it, where that can be done.

    Reading a file in WAL mode makes two more files, unless it is called immutable. It is while nobody has it open: who
    does has made them.
    """
    with path.open("rb") as file:
        is_wal = file.read(20)[18:19] == b"\x02"
    is_open = any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal"))
    options = "mode=ro&immutable=1" if is_wal and not is_open else "mode=ro"
    uri = f"file:{quote(str(path.resolve()))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=TURN, check_same_thread=False)


def _described(url: str) -> tuple[str, MetaData, Table]:
    """SQLAlchemy's URL of a record, and its table.

    Raises:
        UsageError: a URL of something else.
        MissingExtraError: the libraries are not installed.
    """
    try:
        from sqlalchemy import Column, Integer, MetaData, Text
        from sqlalchemy import Table as MakeTable
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
    return url, metadata, table


def _prepared(engine: Engine) -> None:
    """SQLite: readers beside the writer, and nothing acknowledged before it is on disk."""
    from sqlalchemy import event

    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        # Without this, Python's sqlite3 begins transactions by itself; `take_turn` has to, with the lock.
        connection.isolation_level = None
        # WAL lets readers go on beside a writer. Its default `synchronous=NORMAL` would let the last transactions be
        # lost with the power, after they were acknowledged.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")


def identity(engine: Engine) -> tuple[int, int] | None:
    """Device and number of SQLite's file; None where there is none, as with a server."""
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    try:
        status = os.stat(Path(name))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def take_turn(connection: Connection) -> None:
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
