"""Server-sent events in and out: from an upstream's bytes, cut wherever the network likes, to JSON, and back."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx
from httpx_sse import EventSource, SSEError

DONE: Final = b"data: [DONE]\n\n"
LONGEST: Final = 4_000_000
"""Bytes of one line; an upstream that sends more is out of order."""


class UpstreamError(Exception):
    """What an upstream did that no stream does; the message is for the client."""


class _LengthLimitedStream(httpx.AsyncByteStream):
    """The bytes as they come, as long as lines have an end."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        since = 0
        async for part in self._stream:
            end = max(part.rfind(b"\n"), part.rfind(b"\r"))
            since = since + len(part) if end < 0 else len(part) - end - 1
            if since > LONGEST:
                raise UpstreamError("the upstream sent a line without an end")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def chunks(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a stream, up to `[DONE]` or its end.

    Args:
        response: of the upstream, not read yet.

    Raises:
        UpstreamError: no event stream, no JSON, an error instead of a chunk, or a connection that broke.
    """
    assert isinstance(response.stream, httpx.AsyncByteStream)
    response.stream = _LengthLimitedStream(response.stream)
    try:
        async with aclosing(EventSource(response).aiter_sse()) as events:
            async for event in events:
                if event.data.strip() == "[DONE]":
                    return
                yield _object(event.data)
    except SSEError as error:
        raise UpstreamError("the upstream sent something else than an event stream") from error
    except httpx.TimeoutException as error:
        raise UpstreamError("the upstream fell silent") from error
    except httpx.HTTPError as error:
        raise UpstreamError("the upstream's connection broke") from error


def _object(data: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UpstreamError("the upstream sent an event that is not JSON") from error
    if not isinstance(document, dict):
        raise UpstreamError("the upstream sent an event that is no object")
    if document.get("error"):
        raise UpstreamError("the upstream reported an error")
    return document


def event(document: Mapping[str, Any]) -> bytes:
    """One event; JSON holds no line breaks, so one line is enough."""
    return b"data: " + json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n\n"
