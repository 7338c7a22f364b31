"""An upstream that is slow to answer at all: a stream begins without it, and whatever comes later is an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.streaming.stream_response import StartedStream
from equipoise.guard.policy import Policy, StreamPolicy
from tests.guard.gateway.upstreams import Gateway, delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
SLOW = 0.6
STREAM = [delta("fine", role="assistant"), delta(None, finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = StartedStream.wait
    monkeypatch.setattr(StartedStream, "wait", lambda self: wait(self, 0.1))


class Slow(httpx.AsyncBaseTransport):
    """Answers after some seconds."""

    def __init__(self, within: httpx.AsyncBaseTransport, seconds: float) -> None:
        self.within, self.seconds, self.cancelled = within, seconds, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await self.within.handle_async_request(request)


@asynccontextmanager
async def slow(folder: Path, answer: httpx.Response, seconds: float) -> AsyncIterator[tuple[Gateway, Slow]]:
    policy = Policy(stream=StreamPolicy(keepalive=0.1))
    async with gateway(folder, lambda body: answer, policy=policy) as served:
        transport = Slow(served.fake, seconds)
        served.service.upstream.client._transport = transport
        yield served, transport


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("answer", [lambda: pieces(*STREAM), lambda: whole(message("fine"))])
async def test_comments_keep_the_client_until_the_upstream_answers(tmp_path: Path, answer: Any) -> None:
    async with slow(tmp_path, answer(), SLOW) as (served, _):
        response = await served.chat(stream=True)
        assert response.status_code == 200
        assert response.text.count(": keepalive") >= 2
        assert '"content":"fine"' in response.text.replace(" ", "")
        assert response.text.endswith("data: [DONE]\n\n")
        assert [entry["status"] for entry in served.entries()] == [200]


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (lambda: httpx.Response(429, json={"error": {"message": "too many cats", "code": "full"}}), 429),
        (lambda: httpx.Response(200, headers={"content-type": "text/html"}, content=b"<p>"), 502),
    ],
)
async def test_an_error_has_its_status_before_the_response_begins_and_is_an_event_after(
    tmp_path: Path, answer: Any, status: int
) -> None:
    for seconds in (0.0, SLOW):
        folder = tmp_path / str(seconds)
        folder.mkdir()
        async with slow(folder, answer(), seconds) as (served, _):
            response = await served.chat(stream=True)
            assert response.status_code == (200 if seconds else status)
            text = response.text
            if seconds:
                assert text.endswith("data: [DONE]\n\n")
                text = next(line[6:] for line in text.splitlines() if line.startswith("data: {"))
            assert json.loads(text)["error"]["code"] == ("full" if status == 429 else "upstream_invalid")
            assert [entry["status"] for entry in served.entries()] == [status]


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("after", [0.05, 0.3])
async def test_a_client_that_leaves_while_the_upstream_is_asked_ends_that(tmp_path: Path, after: float) -> None:
    async with slow(tmp_path, pieces(*STREAM), 30.0) as (served, transport):
        asking = asyncio.create_task(leaving(served, after))
        await asyncio.wait_for(asking, 10)
        await served.service.close()
        assert transport.cancelled == 1
        assert [entry["status"] for entry in served.entries()] == [499]


async def leaving(served: Gateway, after: float) -> None:
    """A request of a client that leaves after some seconds."""
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    waiting = [{"type": "http.request", "body": body}]

    async def receive() -> Any:
        if waiting:
            return waiting.pop()
        await asyncio.sleep(after)
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
    app = served.client._transport.app  # type: ignore[attr-defined]
    # How the server learns of it does not matter here.
    with suppress(Exception):
        await app({**scope, "http_version": "1.1", "asgi": {"spec_version": "2.3"}}, receive, send)
