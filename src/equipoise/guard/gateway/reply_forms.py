"""Replies in the other form than was asked for: whole where a stream was, or events where none were.

Some servers and proxies know one form alone. A whole reply becomes the chunks of a stream, and the chunks of a stream a
whole reply, before anything is judged; what is judged is what the client gets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from itertools import pairwise
from typing import Any, Final

import httpx

from equipoise.guard.gateway.blobs import LONG
from equipoise.guard.gateway.dialects import WORDLESS
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.reply_choices import choice_number
from equipoise.guard.gateway.streaming.events import DONE, FINISHED, UpstreamError, chunks, event
from equipoise.guard.gateway.streaming.stream_stats import frame_of
from equipoise.guard.gateway.upstream import parsed, problem_of

_EVENTS: Final = (b"data:", b"event:", b":", b"id:", b"retry:")
"""What the body of an event stream begins with, whatever its headers call it."""
_LONGEST: Final = 100_000
"""Chunks of a stream that are put together."""


def has_events(content: bytes) -> bool:
    """Whether a body is an event stream."""
    return content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_EVENTS)


def as_stream(response: httpx.Response, *, usage: bool) -> httpx.Response:
    """A response that was read to its end as an event stream.

    Args:
        response: events by another content type, or a whole reply.
        usage: whether the client asked for token counts.

    Raises:
        RequestProblem: it is neither, or it is an error.
    """
    content = response.content
    if not has_events(content):
        content = b"".join(map(event, completion_chunks(parsed(response), usage=usage))) + DONE
    return _response(content, "text/event-stream")


def completion_chunks(completion: Mapping[str, Any], *, usage: bool) -> list[dict[str, Any]]:
    """A completion as the chunks of a stream.

    Args:
        completion: whole.
        usage: whether the last chunk has its token counts.

    Raises:
        RequestProblem: it is no completion.
    """
    choices = completion.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        raise RequestProblem(502, "the upstream sent something that is no chat completion", "upstream_invalid")
    # Fields beside the choices stand in the first chunk alone, and are judged there.
    beside = {name: value for name, value in completion.items() if name not in ("choices", "usage")}
    frame = {**frame_of(completion), "object": "chat.completion.chunk"}
    parts = []
    for at, choice in enumerate(choices):
        index = choice_number(choice, at)
        rest = {name: value for name, value in choice.items() if name not in ("message", "delta")}
        message = choice.get("message") or choice.get("delta") or {}
        if not isinstance(message, Mapping):
            raise RequestProblem(502, "the upstream sent something that is no chat completion", "upstream_invalid")
        begin = {**rest, "index": index, "delta": _numbered(message), "finish_reason": None}
        end: dict[str, Any] = {"index": index, "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        parts += [{**beside, **frame, "choices": [begin]}, {**frame, "choices": [end]}]
        beside = {}
    if usage and completion.get("usage"):
        parts.append({**frame, "choices": [], "usage": completion["usage"]})
    return parts


def _numbered(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a delta, whose tool calls have numbers."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return dict(message)
    numbered = [{"index": at, **call} if isinstance(call, Mapping) else call for at, call in enumerate(calls)]
    return {**message, "tool_calls": numbered}


async def as_whole(response: httpx.Response) -> httpx.Response:
    """The events of a stream that was read to its end as a whole reply; any other response as it is.

    Raises:
        RequestProblem: the stream is an error, or broken.
    """
    if not has_events(response.content):
        return response
    try:
        # Putting a long reply together would block the event loop.
        is_long = len(response.content) > LONG
        reading = _read(response.content)
        completion = await asyncio.to_thread(asyncio.run, reading) if is_long else await reading
    except UpstreamError as error:
        if error.reported is not None:
            raise problem_of(error.reported, error.reported.status or 502, {}) from error
        raise RequestProblem(502, str(error), "upstream_invalid") from error
    return _response(json.dumps(completion).encode(), "application/json")


async def _read(content: bytes) -> dict[str, Any]:
    # Closed by name, as a generator that is left half read is finished by the garbage collector.
    async with aclosing(chunks(_response(content, "text/event-stream"))) as parts:
        return await _joined(parts)


async def _joined(parts: AsyncGenerator[dict[str, Any] | None, None]) -> dict[str, Any]:
    completion: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    messages: dict[int, list[Mapping[str, Any]]] = {}
    number, complete = 0, False
    async for chunk in parts:
        number += 1
        if chunk is None or number > _LONGEST:
            continue
        complete = complete or chunk is FINISHED
        completion |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        given = chunk.get("choices")
        for choice in given if isinstance(given, list) else ():
            if not isinstance(choice, Mapping):
                continue
            index = choice_number(choice, 0)
            # Perplexity repeats the whole message so far beside each delta; others send messages alone.
            if isinstance(choice.get("message"), Mapping):
                messages.setdefault(index, []).append(choice["message"])
            piece = {name: value for name, value in choice.items() if name not in ("message", "delta")}
            piece["index"] = index
            delta = choice.get("delta") if isinstance(choice.get("delta"), Mapping) else {}
            choices[index] = _merged(choices.get(index, {}), {**piece, "message": delta})
    if not choices or number > _LONGEST or not (complete or all(map(_is_finished, choices.values()))):
        raise UpstreamError("the upstream ended in the middle of its reply")
    for index, choice in choices.items():
        if index in messages and not any(value for name, value in choice["message"].items() if name != "role"):
            choice["message"] = _message(messages[index])
    return {**completion, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _message(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The message of a stream without deltas: the last one where each repeats the one before, or all in pieces."""
    contents = [str(part["content"]) for part in parts if part.get("content")]
    grows = all(later.startswith(earlier) for earlier, later in pairwise(contents))
    message: dict[str, Any] = {}
    for part in parts:
        latest = {name: value for name, value in part.items() if value or name not in message}
        message = {**message, **latest} if grows else _merged(message, part)
    return message


def _is_finished(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("finish_reason"))


def _merged(old: Any, new: Any, name: str = "") -> Any:
    """A field of a message after one more piece of it.

    Args:
        old: the field so far; None where it has not begun.
        new: the piece.
        name: of the field; ids and kinds come whole, and words in pieces.
    """
    if new is None or old is None:
        return old if new is None else new
    if isinstance(old, str) and isinstance(new, str):
        return (new or old) if name in WORDLESS else old if name == "name" and old == new else old + new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merged(old.get(key), value, key) for key, value in new.items()}}
    if name == "content" and isinstance(old, str | list) and isinstance(new, str | list):
        return _joined_texts([*_parts(old), *_parts(new)])
    if not isinstance(old, list) or not isinstance(new, list):
        return new
    items = list(old)
    for item in new:
        index = item.get("index") if isinstance(item, Mapping) else None
        at = next((at for at, known in enumerate(items) if _index(known) == index), None) if index is not None else None
        if at is None:
            items.append(item)
        else:
            items[at] = _merged(items[at], item)
    return items


def _index(item: Any) -> Any:
    return item.get("index") if isinstance(item, Mapping) else None


def _parts(content: str | list[Any]) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []


def _joined_texts(parts: list[Any]) -> str | list[Any]:
    """Parts of content with neighbouring texts as one; a text where there is nothing else."""
    joined: list[Any] = []
    for part in parts:
        if _is_text(part) and part["text"] is None:
            continue
        if joined and _is_text(part) and _is_text(joined[-1]):
            joined[-1] = {"type": "text", "text": joined[-1]["text"] + part["text"]}
        else:
            joined.append(part)
    return joined[0]["text"] if len(joined) == 1 and _is_text(joined[0]) else joined


def _is_text(part: Any) -> bool:
    """Whether a part is a text and nothing else."""
    is_plain = isinstance(part, Mapping) and set(part) == {"type", "text"} and part["type"] == "text"
    return is_plain and isinstance(part["text"], str | None)


def _response(content: bytes, kind: str) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": kind}, content=content)
