"""Server-sent events in and out: from an upstream's bytes, cut wherever the network likes, to JSON, and back."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx

from equipoise.guard.gateway.json_depth import MOST, is_too_deep
from equipoise.guard.gateway.received_bytes import ReceivedBytes
from equipoise.guard.gateway.reply_json import reply_json
from equipoise.guard.gateway.upstream_errors import ReportedError, is_error_event, reported_error

DONE: Final = b"data: [DONE]\n\n"
KEEPALIVE: Final = b": keepalive\n\n"
"""A comment, which clients ignore; it keeps proxies and clients from closing a silent connection."""
FINISHED: Final[dict[str, Any]] = {}
"""Stands for the upstream's `[DONE]`; compared by identity."""
_SIGNS_OF_LIFE: Final = ("ping", "keep-alive", "keepalive", "heartbeat")
"""Events, and what stands in them, that only keep a connection open."""
PIECE: Final = 65_536
"""Bytes from which on events are written by themselves."""
LONGEST: Final = 64_000_000
"""Bytes of one line and characters of one event, as of a whole reply: a picture is one line. An upstream that sends
more is out of order."""


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
    """The JSON objects of a stream, then `FINISHED` if `[DONE]` came; None for each comment that keeps it alive.

    Args:
        response: of the upstream, not read yet.

    Raises:
        UpstreamError: no event stream, no JSON, an error instead of a chunk, or a connection that broke.
    """
    if not is_event_stream(response):
        raise UpstreamError("the upstream sent something else than an event stream")
    events = _Events()
    try:
        async with aclosing(_lines(response)) as lines:
            async for line in lines:
                for item in events.take(line):
                    yield item
                    if item is FINISHED:
                        return
    except httpx.TimeoutException as error:
        raise UpstreamError("the upstream fell silent") from error
    except httpx.HTTPError as error:
        raise UpstreamError("the upstream's connection broke") from error
    for item in events.rest():
        yield item


def is_event_stream(response: httpx.Response) -> bool:
    """Whether a response may be an event stream: some servers call it plain text, or do not say what it is."""
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media in ("text/event-stream", "text/plain", "application/octet-stream", "")


class _Events:
    """The events in the lines of a stream, also of servers that leave out blank lines or the field's name."""

    def __init__(self) -> None:
        self._kind = ""
        self._data: list[str] = []
        self._size = 0
        """Characters of the lines of this event."""
        self._bare = False
        """Whether the event's lines are bare JSON, as servers write errors that come up in the middle of a stream."""

    def take(self, line: str) -> list[dict[str, Any] | None]:
        """What is complete with one more line.

        Raises:
            UpstreamError: an event without an end, or one that is no chunk.
        """
        self._size += len(line)
        if self._size > LONGEST:
            raise UpstreamError("the upstream sent an event without an end")
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            return self._end()
        self._bare = self._bare or line.startswith("{")
        if self._bare and name not in ("data", "event"):
            self._data.append(line)
            return []
        if not name:
            return [None]
        ended: list[dict[str, Any] | None] = []
        if name == "event":
            self._kind = value.strip()
        elif name == "error":
            self._kind = name
            self._data.append(value)
        elif name == "data":
            # No JSON has `}` before `{` on two lines: these are two events without the blank line between them.
            if self._data and self._data[-1].endswith("}") and value.startswith(("{", "[DONE]")):
                ended = self._end()
            self._data.append(value)
        return ended

    def rest(self) -> list[dict[str, Any] | None]:
        """The last event of a stream that ends without a blank line; nothing where it broke off within the event."""
        try:
            return self._end()
        except UpstreamError as error:
            if error.reported is not None:
                raise
            return []

    def _end(self) -> list[dict[str, Any] | None]:
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data, self._size, self._bare = "", [], 0, False
        if data.strip().strip('"') == "[DONE]":
            return [FINISHED]
        return [_object(kind, data)] if kind or data else []


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The lines of a stream, which end in CR, LF or both, or with the stream.

    Raises:
        UpstreamError: a line has no end.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    # The beginning of a line in pieces, which are joined once: a long line comes in thousands.
    begun: list[str] = []
    held = ""
    since = 0
    async with aclosing(ReceivedBytes(response)) as parts:
        async for part in parts:
            end = max(part.rfind(b"\n"), part.rfind(b"\r"))
            since = since + len(part) if end < 0 else len(part) - end - 1
            if since > LONGEST:
                raise UpstreamError("the upstream sent a line without an end")
            text = held + decoder.decode(part)
            # A CR at the end may be the first half of a CRLF.
            held = text[-1:] if text.endswith("\r") else ""
            first, *more = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
            begun.append(first)
            for line in more:
                yield "".join(begun)
                begun = [line]
    rest = "".join(begun)
    if rest:
        yield rest


def _object(kind: str, data: str) -> dict[str, Any] | None:
    if kind.lower() in _SIGNS_OF_LIFE or data.strip().lower() in ("", "null", *_SIGNS_OF_LIFE):
        return None
    try:
        document = reply_json(data)
    except (ValueError, RecursionError) as error:
        # Words instead of JSON are an error's; half a document is not.
        words = None if data.lstrip().startswith(("{", "[")) else reported_error(data)
        raise UpstreamError("the upstream sent an event that is not JSON", words) from error
    if kind == "error":
        raise UpstreamError("the upstream reported an error", reported_error(document))
    if not isinstance(document, dict):
        raise UpstreamError("the upstream sent an event that is no object", reported_error(document))
    # Most events have too few brackets to be deep, which is quicker to see than their levels.
    if data.count("{") + data.count("[") > MOST and is_too_deep(document):
        raise UpstreamError("the upstream sent an event that is nested too deep")
    if document.get("type") == "ping":
        return None
    if is_error_event(document):
        raise UpstreamError("the upstream reported an error", reported_error(document))
    return document


def event(document: Mapping[str, Any]) -> bytes:
    """One event; JSON holds no line breaks, so one line is enough."""
    return b"data: " + json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n\n"


def in_pieces(events: Iterable[bytes]) -> Iterator[bytes]:
    """Events that leave at the same time, joined: each piece is one write, and a large one waits for its reader."""
    piece: list[bytes] = []
    size = 0
    for part in events:
        piece.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)
