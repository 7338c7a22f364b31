"""`ReceivedBytes`: the body of an upstream's response, read so that nothing is left to the garbage collector."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

import httpx


class ReceivedBytes:
    """The bytes of a response as they come, unpacked.

    An iterator and no generator: a generator that a cancelled request leaves half read is finished by the garbage
    collector, at a time and in a task of its choice. Use it in `aclosing`: what `httpx` makes of the response is then
    closed by name.

    Args:
        response: of the upstream, not read yet.
    """

    def __init__(self, response: httpx.Response) -> None:
        # Where nothing is to be unpacked, `aiter_bytes` only adds two generators, which nobody could close.
        packed = response.headers.get("content-encoding", "identity").strip().lower() != "identity"
        stream = response.aiter_bytes() if packed else response.stream
        assert isinstance(stream, AsyncIterable)
        self._parts = aiter(stream)

    def __aiter__(self) -> ReceivedBytes:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._parts)

    async def aclose(self) -> None:
        """End the reading; the response stays open."""
        if isinstance(self._parts, AsyncGenerator):
            await self._parts.aclose()
