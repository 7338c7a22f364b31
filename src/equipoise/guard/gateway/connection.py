"""`while_connected`: works on a request as long as its client is there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from equipoise.guard.gateway.streaming.stream_response import StartedStreamResponse


async def while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The response that `work` makes; it is cancelled if the client leaves, and with it the upstream's request.

    Args:
        request: its body was read to the end, so that the next message is that the client left.
        work: makes the response.

    Raises:
        ClientDisconnect: the client left before there was a response.
    """
    task = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    delivered = False
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        delivered = True
        return task.result()
    finally:
        leaving.cancel()
        if not delivered:
            await _abandon(task)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _abandon(task: asyncio.Task[Response]) -> None:
    """Cancel work whose response nobody takes; a stream that it opened is closed."""
    task.cancel()
    await asyncio.wait({task})
    if task.cancelled() or task.exception() is not None:
        return
    response = task.result()
    if isinstance(response, StartedStreamResponse):
        response.abandon()
