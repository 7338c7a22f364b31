"""Server-sent events in and out: from an upstream's bytes, cut wherever the network likes, to JSON, and back."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx

from equipoise.guard.gateway.json_depth import is_too_deep
from equipoise.guard.gateway.received_bytes import ReceivedBytes
from equipoise.guard.gateway.upstream_errors import ReportedError, is_error, reported_error

DONE: Final = b"data: [DONE]\n\n"
KEEPALIVE: Final = b": keepalive\n\n"
"""A comment, which clients ignore; it keeps proxies and clients from closing a silent connection."""
LONGEST: Final = 4_000_000
"""Bytes of one line; an upstream that sends more is out of order."""


class UpstreamError(Exception):
    """An error in an upstream's stream: another content type, invalid JSON, a broken connection, a reported error.

    Args:
        message: in our words.
        reported: the error in the upstream's words, if it sent one.
    """

    def __init__(self, message: str, reported: ReportedError | None = None) -> None:
        super().__init__(message)
        self.reported = reported


async def chunks(response: httpx.Response) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The JSON objects of a stream, up to `[DONE]` or its end; None for each comment and ping that keeps it alive.

    Args:
        response: of the upstream, not read yet.

    Raises:
        UpstreamError: no event stream, no JSON, an error instead of a chunk, or a connection that broke.
    """
    if "text/event-stream" not in response.headers.get("content-type", ""):
        raise UpstreamError("the upstream sent something else than an event stream")
    kind, data = "", list[str]()
    try:
        async with aclosing(_lines(response)) as lines:
            async for line in lines:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if line and not name:
                    yield None
                elif name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif not line and (kind or data):
                    text = "\n".join(data)
                    if text.strip() == "[DONE]":
                        return
                    yield _object(kind, text)
                    kind, data = "", []
    except httpx.TimeoutException as error:
        raise UpstreamError("the upstream fell silent") from error
    except httpx.HTTPError as error:
        raise UpstreamError("the upstream's connection broke") from error


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The lines of a stream, which end in CR, LF or both; what follows the last line's end is dropped.

    Raises:
        UpstreamError: a line has no end.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    rest = ""
    since = 0
    async with aclosing(ReceivedBytes(response)) as parts:
        async for part in parts:
            end = max(part.rfind(b"\n"), part.rfind(b"\r"))
            since = since + len(part) if end < 0 else len(part) - end - 1
            if since > LONGEST:
                raise UpstreamError("the upstream sent a line without an end")
            text = rest + decoder.decode(part)
            # A CR at the end may be the first half of a CRLF.
            held = text[-1:] if text.endswith("\r") else ""
            *lines, rest = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
            rest += held
            for line in lines:
                yield line
    if rest.endswith("\r"):
        yield rest[:-1]


def _object(kind: str, data: str) -> dict[str, Any] | None:
    if not data.strip() or kind == "ping":
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UpstreamError("the upstream sent an event that is not JSON") from error
    if kind == "error":
        raise UpstreamError("the upstream reported an error", reported_error(document))
    if not isinstance(document, dict) or is_too_deep(document):
        raise UpstreamError("the upstream sent an event that is no object, or one that is nested too deep")
    if document.get("type") == "ping":
        return None
    if is_error(document):
        raise UpstreamError("the upstream reported an error", reported_error(document))
    return document


def event(document: Mapping[str, Any]) -> bytes:
    """One event; JSON holds no line breaks, so one line is enough."""
    return b"data: " + json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n\n"
