"""`serve`: runs the model server on a socket, and stops it without leaving clients without an answer."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import uvicorn

from equipoise.model_server.app import ModelServer, create

GRACE: Final = 20.0
"""Seconds that the batch at hand gets to end when the server stops."""
LEFT: Final = 5
"""Seconds after that for answers on their way to slow clients."""


class StoppingServer(uvicorn.Server):
    """A server of which a signal turns away at once who waits for the model, and the others after `GRACE`.

    Args:
        server: the model.
        grace: in place of `GRACE`.
    """

    def __init__(self, server: ModelServer, grace: float = GRACE) -> None:
        seconds = int(grace) + LEFT
        super().__init__(
            uvicorn.Config(create(server), log_level="warning", access_log=False, timeout_graceful_shutdown=seconds)
        )
        self._queue, self._grace = server.queue, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer those that wait, then close the connections."""
        closing = asyncio.create_task(asyncio.to_thread(self._queue.close, self._grace))
        await super().shutdown(sockets)
        # A second signal means now.
        if not self.force_exit:
            await closing


def serve(server: ModelServer, listening: socket.socket) -> None:
    """Serve until a signal comes.

    Args:
        server: the model.
        listening: where.
    """
    StoppingServer(server).run(sockets=[listening])
