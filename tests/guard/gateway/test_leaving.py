"""A client may leave at any moment: it costs at most its own request, and leaves no connection of the upstream open."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.requests import ClientDisconnect

from equipoise.guard.gateway.app import create
from equipoise.guard.policy import Policy, StreamPolicy
from tests.guard.gateway.upstreams import Gateway, Pieces, delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
ENDS = [delta(None, finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answers(opened: list[Pieces]) -> Any:
    def answer(body: dict[str, Any]) -> httpx.Response:
        if not body.get("stream"):
            return whole(message("fine"))
        response = pieces(delta("fine "), 0.0, delta("and more "), 0.0, delta("words"), *ENDS)
        assert isinstance(response.stream, Pieces)
        opened.append(response.stream)
        return response

    return answer


class Asked:
    """A request driven by hand, whose task is cancelled after so many turns of the event loop."""

    def __init__(self, served: Gateway, *, stream: bool) -> None:
        self.app = served.client._transport.app  # type: ignore[attr-defined]
        self.body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": stream}).encode()
        self.sent: list[Any] = []
        self.gone = asyncio.Event()

    async def receive(self) -> Any:
        if self.body:
            body, self.body = self.body, b""
            return {"type": "http.request", "body": body}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(event)

    async def run(self, version: str) -> None:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
        await self.app({**scope, "http_version": "1.1", "asgi": {"spec_version": version}}, self.receive, self.send)

    async def leave_after(self, steps: int, how: str, pause: float) -> bool:
        """Whether it left before the answer's end."""
        task = asyncio.create_task(self.run("2.3"))
        for _ in range(steps):
            if task.done():
                break
            await asyncio.sleep(pause)
        left = not task.done()
        if how == "cancel":
            task.cancel()
        else:
            self.gone.set()
        await asyncio.wait({task}, timeout=60)
        assert task.done(), "a request whose client left has an end"
        return left


@pytest.mark.parametrize("how", ["cancel", "disconnect"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_may_leave_at_any_await(tmp_path: Path, stream: bool, how: str) -> None:
    opened: list[Pieces] = []
    policy = Policy(stream=StreamPolicy(hold=4, every=2))
    async with gateway(tmp_path, answers(opened), policy=policy) as served:
        left = [await Asked(served, stream=stream).leave_after(steps, how, 0) for steps in range(50)]
        # Threads check and record; with a little time for them every answer comes to its end at last.
        left += [await Asked(served, stream=stream).leave_after(steps, how, 0.001) for steps in range(50)]
        assert True in left
        response = await asyncio.wait_for(served.chat(), 5)
        assert response.json()["choices"][0]["message"]["content"] == "fine"
        response = await asyncio.wait_for(served.chat(stream=True), 5)
        assert response.text.endswith("data: [DONE]\n\n")
        while served.service._background:
            await asyncio.wait(served.service._background, timeout=5)
        assert all(stream.closed for stream in opened), "no connection to the upstream stays open"
        assert served.record.trouble is None
        assert served.record.verify().problem is None
        assert {entry["status"] for entry in served.entries()} <= {200, 400, 499}
        assert (await served.client.get("/ready")).status_code == 200


async def test_a_response_that_never_begins_is_let_go_of(tmp_path: Path) -> None:
    opened: list[Pieces] = []
    async with gateway(tmp_path, answers(opened)) as served:
        pending = Asked(served, stream=True)

        async def send(event: Any) -> None:
            raise OSError("the client is gone")

        pending.send = send  # type: ignore[method-assign]
        with pytest.raises((OSError, ExceptionGroup, ClientDisconnect)):
            await pending.run("2.4")
        while served.service._background:
            await asyncio.wait(served.service._background, timeout=5)
        assert [stream.closed for stream in opened] == [True]
        assert served.entries()[-1]["status"] in (200, 499)


def test_the_sdk_may_stop_at_the_finish_reason(tmp_path: Path) -> None:
    """As ordinary clients do; the next request, of anybody, is answered."""

    async def serve(ready: threading.Event, port: list[int], stop: threading.Event) -> None:
        async with gateway(tmp_path, answers([])) as served:
            config = uvicorn.Config(create(served.service), port=0, log_level="error", lifespan="off")
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.01)
            port.append(server.servers[0].sockets[0].getsockname()[1])
            ready.set()
            await asyncio.to_thread(stop.wait)
            server.should_exit = True
            await task

    ready, port, stop = threading.Event(), list[int](), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(ready, port, stop)))
    thread.start()
    try:
        assert ready.wait(20)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port[0]}/v1", api_key="x", max_retries=0, timeout=10)
        body: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        for _ in range(5):
            with client.chat.completions.create(**body, stream=True) as chunks:
                for chunk in chunks:
                    if chunk.choices and chunk.choices[0].finish_reason:
                        break
            assert client.chat.completions.create(**body).choices[0].message.content == "fine"
        client.close()
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive(), "and its end does not hang"


async def test_a_record_that_hangs_is_an_error_and_a_red_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    async with gateway(tmp_path, answers([])) as served:
        assert (await served.chat()).status_code == 200
        write = served.record._writer._commit

        def hang(texts: Sequence[str]) -> Any:
            go.wait(20)
            return write(texts)

        monkeypatch.setattr(served.record, "_seconds", 0.1)
        monkeypatch.setattr(served.record._writer, "_seconds", 0.1)
        monkeypatch.setattr(served.record._writer, "_commit", hang)
        for _ in range(2):
            response = await asyncio.wait_for(served.chat(), 5)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "record_failed")
            assert response.headers["retry-after"]
        ready = await served.client.get("/ready")
        assert ready.status_code == 503
        assert "writer" in json.dumps(ready.json()["problems"])
        assert (await served.client.get("/health")).status_code == 200
        monkeypatch.setattr("equipoise.guard.gateway.gateway_state.STUCK", 0.05)
        assert (await served.client.get("/health")).status_code == 503
        go.set()
        deadline = time.monotonic() + 5
        while served.record.hangs and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(served.record, "_seconds", 5.0)
        assert (await served.chat()).status_code == 200
        assert (await served.client.get("/ready")).status_code == 200
