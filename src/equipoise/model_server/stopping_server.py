"""`serve`: runs the model server on a socket, and stops it without leaving clients without an answer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

import uvicorn

from equipoise.model_server.announced_server import AnnouncedServer
from equipoise.model_server.app import ModelServer, create

GRACE: Final = 20.0
"""Seconds that the batch at hand gets to end when the server stops."""
TURN: Final = 0.1
"""Seconds between looks at what ended."""
LEFT: Final = 5
"""Seconds after that for answers on their way to slow clients."""


class StoppingServer(AnnouncedServer):
    """A server of which a signal turns away at once who waits for the model, and the others after `GRACE`.

    Args:
        server: the model.
        announce: says that it listens.
        grace: in place of `GRACE`.
    """

    def __init__(self, server: ModelServer, announce: Callable[[], None], grace: float = GRACE) -> None:
        seconds = int(grace) + LEFT
        application = create(server)
        super().__init__(
            uvicorn.Config(
                application, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=seconds
            ),
            announce,
        )
        self._queue, self._grace = server.queue, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer those that wait, then close the connections; a second signal ends the batch's time at once."""
        self._queue.stop()
        giving_up = asyncio.create_task(self._give_up())
        await super().shutdown(sockets)
        await giving_up
        # The last answers leave in the next turns of the loop, where a second signal did not wait for them.
        await asyncio.sleep(TURN)

    async def _give_up(self) -> None:
        end = time.monotonic() + self._grace
        while self._queue.is_alive and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(TURN)
        self._queue.abandon()


def serve(server: ModelServer, listening: socket.socket, announce: Callable[[], None]) -> None:
    """Serve until a signal comes.

    Args:
        server: the model.
        listening: where.
        announce: called when the server answers.
    """
    try:
        StoppingServer(server, announce).run(sockets=[listening])
    except KeyboardInterrupt:
        if server.queue.is_alive:
            # Python's own end would abort in the thread that still generates.
            os._exit(128 + signal.SIGINT)
        raise
