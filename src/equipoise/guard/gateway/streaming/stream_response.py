"""`StartedStream`: waits for the first event of a stream before the response begins, and always closes the stream.

Once a response has begun its status is 200. A failure before the first event can still be an error with a status of its
own. A client may leave before the first event is sent: then, too, the upstream's connection is closed and the request
is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

PATIENCE: Final = 5.0
"""Seconds that a response waits for its first event; then it begins without one."""


class StartedStream:
    """A stream of events whose first event is already being read.

    Args:
        parts: the events.
        settle: called once when the stream is over, whether or not it was read to its end; releases its resources.
    """

    def __init__(self, parts: AsyncGenerator[bytes, None], settle: Callable[[], Awaitable[None]]) -> None:
        self._parts = parts
        self._settle = settle
        self._settled = False
        self._first: asyncio.Task[bytes] = asyncio.create_task(self._next())
        # Reading the exception keeps asyncio from logging it if the stream is never read.
        self._first.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _next(self) -> bytes:
        return await anext(self._parts)

    async def wait(self, seconds: float = PATIENCE) -> None:
        """Wait for the first event, but no longer than that."""
        # `wait` does not cancel the task at the timeout, as `wait_for` would: the event is still to come.
        await asyncio.wait({self._first}, timeout=seconds)

    async def rest(self) -> None:
        """Read and discard the rest."""
        with suppress(StopAsyncIteration):
            await self._first
            async for _ in self._parts:
                pass

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            yield await self._first
        except StopAsyncIteration:
            return
        async for part in self._parts:
            yield part

    async def close(self) -> None:
        """End it; may be called again."""
        # Two paths lead here, the end of the response and a client that left; set before the first `await`, the flag
        # keeps the second from recording the request twice.
        if self._settled:
            return
        self._settled = True
        if not self._first.done():
            self._first.cancel()
            await asyncio.wait({self._first})
        with suppress(RuntimeError):
            # A generator that is running in a task which is being cancelled closes itself.
            await self._parts.aclose()
        await self._settle()


class StartedStreamResponse(StreamingResponse):
    """A response of an opened stream.

    Args:
        opened: the stream.
        headers: of the response.
        over: called when the response is over, whether or not it ever began.
    """

    def __init__(self, opened: StartedStream, headers: Mapping[str, str], over: Callable[[], None]) -> None:
        super().__init__(opened.__aiter__(), media_type="text/event-stream", headers=dict(headers))
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also where the client left before the first event: then the iterator is never entered, and no `finally`
            # in it would run.
            self._over()
