"""`ReadAhead`: reads an upstream's chunks while checks run, so that one check sees all that has come meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from equipoise.guard.gateway.streaming.events import UpstreamError

MOST: Final = 128
"""Chunks that are read and not taken yet; then the upstream waits."""


@dataclass(frozen=True)
class _End:
    """Stands behind the last chunk."""

    error: Exception | None = None
    """What the upstream raised, if it did not just end."""


def _cancelled() -> _End:
    # An exception of its own each time: one that is raised again and again keeps the frames of all that raised it.
    return _End(UpstreamError("the upstream's connection broke"))


class ReadAhead:
    """The chunks of an upstream, in order, read by a task of its own. An async context manager, which ends the task.

    Without it the next chunk is read once the check of the last one is done. Under load a check waits its turn for
    seconds, and every later check would be about the text of the moment when it became due, although much more has
    come. `waiting` says that more is here already.

    Args:
        upstream: its chunks; what it raises is raised behind them.
    """

    def __init__(self, upstream: AsyncIterator[dict[str, Any] | None]) -> None:
        self._upstream = upstream
        self._queue: asyncio.Queue[dict[str, Any] | _End | None] = asyncio.Queue(MOST)
        self._ended: _End | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> bool:
        """Whether the next chunk, or the end, has already come."""
        return not self._queue.empty()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        self._task.add_done_callback(self._note_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        # The upstream's generator may only be closed once nobody runs it any more. A client that has left cancels this
        # wait again and again, as long as anything is awaited.
        cancelled: asyncio.CancelledError | None = None
        while not self._task.done():
            try:
                await asyncio.wait({self._task})
            except asyncio.CancelledError as again:
                cancelled = again
        if cancelled is not None:
            raise cancelled

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any] | None:
        if self._ended is None:
            dead = self._queue.empty() and self._task is not None and self._task.done()
            item = _cancelled() if dead else await self._queue.get()
            if not isinstance(item, _End):
                return item
            self._ended = item
            if item.error is not None:
                raise item.error
        raise StopAsyncIteration

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Wake who waits for the next chunk of a task that somebody else has cancelled."""
        if task.cancelled() and not self._queue.full():
            self._queue.put_nowait(_cancelled())

    async def _read(self) -> None:
        end = _End()
        try:
            async for chunk in self._upstream:
                await self._queue.put(chunk)
        except Exception as error:  # noqa: BLE001 - raised again by `__anext__`, in its turn
            end = _End(error)
        await self._queue.put(end)
