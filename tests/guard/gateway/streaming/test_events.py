"""Streams of odd forms are read to their end, and an error within one keeps its words."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.streaming import events
from equipoise.guard.gateway.streaming.events import PIECE, chunks, in_pieces
from equipoise.guard.gateway.streaming.guarded_stream import GuardedStream
from equipoise.guard.gateway.streaming.stream_stats import StreamStats
from equipoise.guard.pipeline import allow
from equipoise.guard.policy import StreamPolicy


class Body(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


async def review(text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
    return allow(text)


def sent(data: bytes, kind: str = "text/event-stream") -> list[dict[str, Any]]:
    async def go() -> list[bytes]:
        response = httpx.Response(200, headers={"content-type": kind} if kind else {}, stream=Body(data))
        guarded = GuardedStream(review, StreamPolicy(), StreamStats(), allow)
        return [part async for part in guarded.run(chunks(response), response.aclose)]

    *parts, done = asyncio.run(go())
    assert done == b"data: [DONE]\n\n"
    return [json.loads(event[6:]) for event in b"".join(parts).split(b"\n\n") if event.startswith(b"data: ")]


def chunk(content: str | None, finish: str | None) -> bytes:
    delta = {} if content is None else {"content": content}
    document = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return f": ping\ndata: {json.dumps(document)}\n\n".encode()


BEGIN = chunk("fine", None)
LAST = BEGIN + chunk(None, "stop")
WHOLE = LAST + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "data",
    [
        LAST,
        LAST.rstrip(),
        WHOLE.rstrip(),
        WHOLE.replace(b"\n\n", b"\n").replace(b": ping\n", b""),
        WHOLE.replace(b': ping\ndata: {"', b'{"'),
        WHOLE.replace(b'"stop"', b"null"),
        WHOLE.replace(b"data: {", b"data:{").replace(b"\n", b"\r"),
        WHOLE.replace(b'"choices": [', b'"choices": [null, ', 1),
        b"\xef\xbb\xbfretry: 3000\n\nid: 7\n" + WHOLE,
    ],
)
@pytest.mark.parametrize("kind", ["Text/Event-Stream; charset=utf-8", "text/plain", ""])
def test_a_stream_of_an_odd_form_is_whole(data: bytes, kind: str) -> None:
    documents = sent(data, kind)
    assert [document["choices"][0]["delta"] for document in documents] == [{"content": "fine"}, {}]


@pytest.mark.parametrize("data", [BEGIN, BEGIN + LAST[len(BEGIN) : -20], b"data: [DONE]\n\n", b"<html>\n</html>"])
def test_a_stream_that_broke_off_says_so(data: bytes) -> None:
    assert "error" in sent(data)[-1]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (b'data: [{"error": {"code": 429, "message": "too many cats"}}]\n\n', 429),
        (b'data: "too many cats"\n\n', "upstream"),
        (b"data: too many cats\n\n", "upstream"),
        (b"event: error\ndata: too many cats\n\n", "upstream"),
        (b'error: {"message": "too many cats"}\n\n', "upstream"),
        (b'{"error": {"message": "too many cats", "code": "full"}}\n', "full"),
        (b'{\n  "error": {\n    "message": "too many cats"\n  }\n}', "upstream"),
        (b'data: {"error": {"message": "too many cats"}}', "upstream"),
    ],
)
def test_an_error_of_any_form_within_a_stream_keeps_its_words(event: bytes, code: Any) -> None:
    content, error = sent(BEGIN + event)
    assert (error["error"]["message"], error["error"]["code"]) == ("too many cats", code)
    assert content["choices"][0]["delta"] == {"content": "fine"}


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too many cats"},
        {"detail": "too many cats"},
        {"type": "rate_limit_error", "message": "too many cats"},
        {"type": "requests", "code": "rate_limit_exceeded", "message": "too many cats"},
        {"object": "chat.completion.chunk", "status": 429, "title": "too many cats"},
        {"status": "RESOURCE_EXHAUSTED", "message": "too many cats"},
    ],
)
def test_an_event_without_choices_that_is_an_error_ends_the_stream(error: dict[str, Any]) -> None:
    assert sent(BEGIN + b"data: " + json.dumps(error).encode() + b"\n\n")[-1]["error"]["message"] == "too many cats"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "status", "message": "Thinking..."},
        {"object": "chat.completion.chunk", "status": "Searching the web", "title": "Search"},
        {"object": "chat.completion.chunk", "usage": {"total_tokens": 3, "detail": "ok"}},
    ],
)
def test_an_event_that_says_how_far_an_answer_is_ends_no_stream(event: dict[str, Any]) -> None:
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    assert event in sent(data + WHOLE)
    assert event in sent(BEGIN + data + WHOLE)
    assert not any("error" in part for part in sent(data + WHOLE))


def test_the_words_of_such_an_event_are_judged() -> None:
    texts: list[str] = []

    async def listens(text: str, *, side_texts: tuple[str, ...], rewrite: bool) -> GuardDecision:
        texts.append(text)
        return allow(text)

    async def go() -> None:
        data = b'data: {"type": "status", "message": "about a bomb"}\n\n' + WHOLE
        response = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(data))
        guarded = GuardedStream(listens, StreamPolicy(), StreamStats(), allow)
        async for _ in guarded.run(chunks(response), response.aclose):
            pass

    asyncio.run(go())
    assert "about a bomb" in texts[-1]


@pytest.mark.parametrize(
    "event", [b"data: null\n\n", b"event: keep-alive\ndata: keep-alive\n\n", b"data: ping\n\n", b"event: heartbeat\n\n"]
)
def test_a_sign_of_life_is_no_event(event: bytes) -> None:
    assert sent(BEGIN + event + WHOLE) == sent(BEGIN + WHOLE)


def test_a_long_line_in_small_pieces_is_read_in_linear_time() -> None:
    # 16 MB in 4,000 pieces: copying what came before with each piece would move 32 GB.
    text = "x" * 16_000_000
    line = b"data: " + json.dumps({"picture": text}).encode() + b"\n\n"

    class Pieces(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for at in range(0, len(line), 4000):
                yield line[at : at + 4000]

    async def read() -> list[Any]:
        return [part async for part in chunks(httpx.Response(200, stream=Pieces()))]

    begin = time.process_time()
    assert asyncio.run(read()) == [{"picture": text}]
    assert time.process_time() - begin < 5


def test_a_quoted_end_is_the_end() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Mix"}}]}
    assert sent(b"data: " + json.dumps(chunk).encode() + b'\n\ndata: "[DONE]"\n\n') == [chunk]


@pytest.mark.parametrize("choices", [{"0": {"delta": {"content": "a bomb"}}}, "a bomb", 7])
def test_choices_that_are_no_list_are_not_passed_on(choices: Any) -> None:
    (error,) = sent(b"data: " + json.dumps({"id": "a", "choices": choices}).encode() + b"\n\n")
    assert error["error"]["code"] == "upstream"


@given(st.lists(st.integers(1, 2 * PIECE), max_size=12))
def test_pieces_hold_all_events_in_order_and_few_bytes_each(sizes: list[int]) -> None:
    events = [bytes([number]) * size for number, size in enumerate(sizes)]
    pieces = list(in_pieces(events))
    assert b"".join(pieces) == b"".join(events)
    assert all(len(piece) < PIECE + max(sizes) for piece in pieces)
    assert all(len(first) + len(second) >= PIECE for first, second in pairwise(pieces))


def test_an_event_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST", 2000)
    assert sent(BEGIN + b"data: [1,\n" * 300)[-1]["error"]["message"] == "the upstream sent an event without an end"
    assert "error" not in sent(BEGIN * 100 + WHOLE)[-1]
