"""`equipoise guard record`: whether an audit record is as it was written, and what it says."""

from __future__ import annotations

import json as js
from typing import Annotated

import typer

from equipoise.cli.console import print_table, warn

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

    with AuditRecord(_there(where)) as opened:
        found = opened.verify(head)
    print_table(f"{found.entries} entries in order, head {found.head}")
    if found.problem is not None:
        warn(found.problem)
        raise typer.Exit(1)


@record.command()
def head(where: Where) -> None:
    """Print the hash of the last entry; kept elsewhere, it proves later that nothing was cut off."""
    from equipoise.guard.record.store import AuditRecord

    with AuditRecord(_there(where)) as opened:
        print_table(opened.head().hash)


@record.command()
def tail(where: Where, count: Annotated[int, typer.Option(min=1, help="Entries.")] = 10) -> None:
    """Print the last entries, one JSON object a line."""
    from equipoise.guard.record.store import AuditRecord

    with AuditRecord(_there(where)) as opened:
        start = max(1, opened.head().number - count + 1)
        for number, entry, found in opened.rows(start):
            print(js.dumps({"number": number, "hash": found, **js.loads(entry)}))


def _there(where: str) -> str:
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
