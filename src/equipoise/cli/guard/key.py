"""`equipoise guard key`: a new key for a client of the gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from equipoise.cli.console import warn


def key(
    name: Annotated[str, typer.Argument(help="Who will use it: letters, digits, - and _.", show_default=False)],
) -> None:
    """Make a key: the lines for the file of keys on stdout, the key itself on stderr, once."""
    from equipoise.guard.gateway.keys import new

    secret, lines = new(name)
    warn(f"the key, shown only now: {secret}")
    print(lines, end="")
