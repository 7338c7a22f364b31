"""`equipoise guard record`: whether an audit record is as it was written, and what it says."""

from __future__ import annotations

import json as js
from typing import Annotated

import typer

from equipoise.cli.console import RowPrinter, print_table, require_one_format, warn
from equipoise.cli.options.arguments import Json, JsonLines
from equipoise.cli.options.endpoint import without_password

Where = Annotated[str, typer.Argument(help="The record: a file, or postgresql://...", show_default=False)]

record = typer.Typer(no_args_is_help=True, help="Verify and read an audit record.")


@record.command()
def verify(
    where: Where,
    head: Annotated[
        str | None, typer.Option(help="A hash that `record head` printed before: shows whether entries were cut off.")
    ] = None,
) -> None:
    """Compute the chain of hashes again; exit code 1 where an entry was changed, removed or put in."""
    from equipoise.guard.record.store import AuditRecord

    with AuditRecord(_existing(where), read_only=True) as opened:
        verification = opened.verify(head)
    print_table(f"{verification.entries} entries in order, head {verification.head}")
    if verification.problem is not None:
        warn(verification.problem)
        raise typer.Exit(1)


@record.command()
def head(where: Where) -> None:
    """Print the hash of the last entry; kept elsewhere, it proves later that nothing was cut off."""
    from equipoise.guard.record.store import AuditRecord

    with AuditRecord(_existing(where), read_only=True) as opened:
        print_table(opened.head().hash)


@record.command()
def tail(
    where: Where,
    count: Annotated[int, typer.Option(min=1, help="Entries.")] = 10,
    json: Json = False,
    jsonl: JsonLines = False,
) -> None:
    """Print the last entries, one JSON object a line, or with --json as one document."""
    from equipoise.guard.record.store import AuditRecord

    require_one_format(json, jsonl)
    printer = RowPrinter({"record": without_password(where)}, lines=not json)
    with AuditRecord(_existing(where), read_only=True) as opened:
        last = opened.head().number
        start = max(1, last - count + 1)
        for number, entry, digest in opened.rows(start):
            printer.add({"number": number, "hash": digest, **js.loads(entry)})
    printer.close({"count": max(0, last - start + 1)})


def _existing(where: str) -> str:
    """A record that exists: reading must not make one.

    Raises:
        UsageError: there is none.
    """
    from pathlib import Path

    from equipoise.errors import UsageError

    file = where.removeprefix("sqlite:///")
    if "://" not in file and not Path(file).is_file():
        raise UsageError(f"expected a record, got nothing at {file}; try the file that --record named")
    return where
