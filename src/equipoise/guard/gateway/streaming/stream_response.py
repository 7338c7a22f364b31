"""`StartedStream`: waits for the first event of a stream before the response begins, and always closes the stream.

Once a response has begun its status is 200. A failure before the first event can still be an error with a status of its
own. A client may leave before the first event is sent: then, too, the upstream's connection is closed and the request
is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.responses import StreamingResponse

from equipoise.guard.gateway.streaming.events import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

FIRST_EVENT_SECONDS: Final = 5.0
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
        part = await anext(self._parts)
        while part == KEEPALIVE:
            # A comment does not begin a response, which could still be an error.
            part = await anext(self._parts)
        return part

    async def wait(self, seconds: float = FIRST_EVENT_SECONDS) -> None:
        """Wait for the first event, but no longer than that."""
        # `wait` does not cancel the task at the timeout, as `wait_for` would: the event is still to come.
        await asyncio.wait({self._first}, timeout=seconds)

    @property
    def is_ready(self) -> bool:
        """Whether the first event is there, or there is none."""
        return self._first.done()

    @property
    def failure(self) -> Exception | None:
        """What was raised instead of the first event; None where nothing was, or no event is there yet."""
        error = self._first.exception() if self._first.done() and not self._first.cancelled() else None
        return error if isinstance(error, Exception) and not isinstance(error, StopAsyncIteration) else None

    async def rest(self) -> None:
        """Read and discard the rest."""
        with suppress(StopAsyncIteration):
            await self._first
            async for _ in self._parts:
                pass

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
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
    """A response of an opened stream, with comments while nothing is sent.

    Args:
        opened: the stream.
        headers: of the response.
        over: called when the response is over, whether or not it ever began.
        keepalive: seconds of silence after which a comment is sent; 0 sends none.
    """

    def __init__(
        self, opened: StartedStream, headers: Mapping[str, str], over: Callable[[], None], keepalive: float
    ) -> None:
        super().__init__(opened.__aiter__(), media_type="text/event-stream", headers=dict(headers))
        self._over = over
        self._keepalive = keepalive
        self._lock = asyncio.Lock()
        self._last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also where the client left before the first event: then the iterator is never entered, and no `finally`
            # in it would run.
            self._over()
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()

    def abandon(self) -> None:
        """Close the stream of a response that is never sent."""
        self._over()

    async def stream_response(self, send: Send) -> None:
        """Send the events, and comments between them.

        One timer runs beside the whole response. A timer around each event would need a task per event.
        """
        comments: asyncio.Task[None] | None = None

        async def send_event(message: Message) -> None:
            nonlocal comments
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            async with self._lock:
                if ends and comments is not None:
                    comments.cancel()
                await send(message)
                self._last = asyncio.get_running_loop().time()
            if comments is None and not ends and self._keepalive:
                comments = asyncio.create_task(self._comment(send))
                # Reading the exception keeps asyncio from logging it: the client left, as the next event will show.
                comments.add_done_callback(lambda task: task.cancelled() or task.exception())

        try:
            await super().stream_response(send_event)
        finally:
            if comments is not None:
                comments.cancel()

    async def _comment(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(max(0.01, self._last + self._keepalive - loop.time()))
            async with self._lock:
                if loop.time() - self._last >= self._keepalive:
                    await send({"type": "http.response.body", "body": KEEPALIVE, "more_body": True})
                    self._last = loop.time()
