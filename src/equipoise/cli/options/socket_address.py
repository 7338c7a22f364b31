"""The address that a server listens on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from equipoise.errors import UsageError, os_reason

Host = Annotated[str, typer.Option(help="Address to listen on.")]


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Inside, a server runs: Ctrl-C, the usual way to end one, interrupts nothing that could be gone on with."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """
    # Named as TCP: otherwise asyncio leaves Nagle's algorithm on, and each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(f"expected a free address, got {host}:{port}: {os_reason(error)}; try --port 0") from error
    listener.listen(512)
    return listener
