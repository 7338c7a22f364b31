"""Chunks come in order, errors behind them; no more is read than fits; the task ends with its user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from equipoise.guard.gateway.streaming.events import UpstreamError
from equipoise.guard.gateway.streaming.read_ahead import MOST, ReadAhead

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Upstream:
    """Numbers up to a count, and then an error if it has one; notes what was taken, and its end."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.taken, self.closed = 0, False

    async def chunks(self) -> AsyncIterator[dict[str, Any] | None]:
        try:
            for number in range(self.count):
                self.taken = number + 1
                yield {"number": number} if number % 3 else None
            if self.error is not None:
                raise self.error
            if not self.count:
                await asyncio.sleep(3600)
        finally:
            self.closed = True


async def test_all_chunks_come_in_order_however_late_they_are_taken() -> None:
    source = Upstream(3 * MOST)
    async with ReadAhead(source.chunks()) as ahead:
        taken = []
        async for chunk in ahead:
            taken.append(chunk)
            if len(taken) % 50 == 0:
                await asyncio.sleep(0.001)
        assert taken == [{"number": number} if number % 3 else None for number in range(3 * MOST)]
        with pytest.raises(StopAsyncIteration):
            await anext(ahead)


async def test_an_error_is_raised_behind_the_chunks_before_it() -> None:
    async with ReadAhead(Upstream(5, ValueError("broke")).chunks()) as ahead:
        for _ in range(5):
            await anext(ahead)
        with pytest.raises(ValueError, match="broke"):
            await anext(ahead)


async def test_it_reads_no_more_than_fits_and_says_what_waits() -> None:
    source = Upstream(3 * MOST)
    async with ReadAhead(source.chunks()) as ahead:
        assert not ahead.waiting
        await asyncio.sleep(0.01)
        assert ahead.waiting
        assert source.taken == MOST + 1


async def test_leaving_ends_an_upstream_that_is_silent() -> None:
    source = Upstream(0)
    async with asyncio.timeout(5):
        async with ReadAhead(source.chunks()) as ahead:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(ahead), 0.01)
    assert source.closed


async def test_a_client_that_leaves_finds_the_upstream_closed_however_often_it_is_cancelled() -> None:
    ended = []

    async def chunks() -> AsyncIterator[dict[str, Any] | None]:
        try:
            yield {}
            await asyncio.sleep(3600)
        finally:
            # Closing a connection takes a few turns of the loop.
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("closed")

    source = chunks()
    with anyio.CancelScope() as scope:
        try:
            async with ReadAhead(source) as ahead:
                await anext(ahead)
                await asyncio.sleep(0)
                scope.cancel()
                await asyncio.sleep(0)
        finally:
            assert ended == ["closed"]
            with anyio.CancelScope(shield=True):
                await source.aclose()  # type: ignore[attr-defined]
    assert scope.cancelled_caught


@pytest.mark.parametrize("count", [2, 3 * MOST])
async def test_a_reading_that_somebody_else_cancels_is_a_broken_connection(count: int) -> None:
    async def chunks() -> AsyncIterator[dict[str, Any] | None]:
        for number in range(count):
            yield {"number": number}
        await asyncio.sleep(3600)

    async def cancelled() -> None:
        async with ReadAhead(chunks()) as ahead:
            await anext(ahead)
            await asyncio.sleep(0.01)
            assert ahead._task is not None
            ahead._task.cancel()
            async for _ in ahead:
                pass

    with pytest.raises(UpstreamError):
        await asyncio.wait_for(cancelled(), 5)
