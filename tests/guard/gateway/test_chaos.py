"""Clients that leave, workers that die, databases that stop, floods: whatever happens costs at most its own request."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.bounded_executor import BoundedExecutor, CheckUnavailable
from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway.keys import ClientKey, ClientKeys
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy, Rail, StreamPolicy
from tests.guard.fakes import Words
from tests.guard.gateway.test_leaving import ENDS, Asked, answers
from tests.guard.gateway.upstreams import Gateway, Pieces, delta, gateway, message, pieces, says, whole

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "x"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x"},
    "/v1/responses": {"input": "x"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9},
    "/v1/moderations": {"input": ["x", "y"]},
    "/beta/litellm_basic_guardrail_api": {"input_type": "response", "texts": ["x"]},
}
STREAMED = ("/v1/completions", "/v1/responses", "/v1/messages")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class AskedElsewhere(Asked):
    """A request to another route."""

    def __init__(self, served: Gateway, path: str, *, stream: bool) -> None:
        super().__init__(served, stream=stream)
        self.path = path
        self.body = json.dumps({"model": "m", **REQUESTS[path], **({"stream": True} if stream else {})}).encode()

    async def run(self, version: str) -> None:
        scope = {"type": "http", "method": "POST", "path": self.path, "query_string": b"", "headers": []}
        await self.app({**scope, "http_version": "1.1", "asgi": {"spec_version": version}}, self.receive, self.send)


@pytest.mark.parametrize(("path", "stream"), [(path, False) for path in REQUESTS] + [(path, True) for path in STREAMED])
async def test_a_client_of_any_route_may_leave_at_any_await(tmp_path: Path, path: str, stream: bool) -> None:
    opened: list[Pieces] = []
    async with gateway(tmp_path, answers(opened), policy=Policy(stream=StreamPolicy(hold=4, every=2))) as served:
        left = []
        for steps in range(30):
            # Turns of the event loop, then time for the threads that check and record.
            for pause in (0.0, 0.001) if steps < 10 else (0.0,):
                client = AskedElsewhere(served, path, stream=stream)
                left.append(await client.leave_after(steps, "cancel" if steps % 2 else "disconnect", pause))
        assert True in left
        assert (await asyncio.wait_for(served.chat(), 10)).status_code == 200
        while served.service._background:
            await asyncio.wait(served.service._background, timeout=5)
        assert all(stream.closed for stream in opened), "no connection to the upstream stays open"
        assert served.record.verify().problem is None
        assert {entry["status"] for entry in served.entries()} <= {200, 400, 499}
        assert (await served.client.get("/ready")).status_code == 200
    gc.collect()


class Dies(Words):
    """A detector whose thread is ended by what it raises, as often as a test says."""

    def __init__(self, error: BaseException, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        if self.times:
            self.times -= 1
            raise self.error
        return super().__call__(evidence)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError(), RecursionError("deep")])
async def test_a_worker_that_dies_costs_its_own_request(tmp_path: Path, error: BaseException, stream: bool) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        return pieces(delta("fine"), *ENDS) if body.get("stream") else whole(message("fine"))

    async with gateway(tmp_path, answer, detector=Dies(error, 2)) as served:
        for _ in range(2):
            failed = await served.chat(stream=stream)
            assert (failed.status_code, failed.json()["error"]["code"]) == (503, "check_failed")
            assert failed.headers["retry-after"]
        assert (await served.chat(stream=stream)).status_code == 200


async def test_the_fail_mode_holds_for_workers_that_die(tmp_path: Path) -> None:
    policy = Policy(output=Rail(fail="open"))
    async with gateway(tmp_path, says("fine"), detector=Dies(SystemExit(1), 1), policy=policy) as served:
        response = await served.chat()
        assert response.json()["choices"][0]["message"]["content"] == "fine"
        assert served.entries()[-1]["decisions"][0]["decided_by"] == "fail mode"


class NoThreads(threading.Thread):
    """The system has no thread left, for so many starts."""

    left = 0

    def start(self) -> None:
        if NoThreads.left:
            NoThreads.left -= 1
            raise RuntimeError("can't start new thread")
        super().start()


async def test_without_a_thread_the_check_fails_and_the_next_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = BoundedExecutor("checks", seconds=10)
    monkeypatch.setattr(threading, "Thread", NoThreads)
    NoThreads.left = 2
    for _ in range(2):
        with pytest.raises(CheckUnavailable, match="no thread"):
            await executor.run(lambda: 1)
    assert await executor.run(lambda: 2) == 2
    executor.close()


async def test_without_a_thread_for_the_record_the_answer_is_withheld_and_the_next_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == "record":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "record_failed")
        monkeypatch.undo()
        assert (await served.chat()).status_code == 200
        assert len(served.entries()) == 1


def lock(folder: Path) -> Callable[[], None]:
    other = sqlite3.connect(folder / "record.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def free() -> None:
        other.execute("ROLLBACK")
        other.close()

    return free


def vanish(folder: Path) -> Callable[[], None]:
    files = [*folder.glob("record.db*")]
    for file in files:
        file.rename(file.with_name(f"away-{file.name}"))

    def back() -> None:
        for file in files:
            file.with_name(f"away-{file.name}").rename(file)

    return back


@pytest.mark.parametrize("stop", [lock, vanish])
async def test_a_database_that_stops_withholds_answers_and_what_was_acknowledged_is_there(
    tmp_path: Path, stop: Callable[[Path], Callable[[], None]]
) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        return pieces(delta("fine"), *ENDS) if body.get("stream") else whole(message("fine"))

    async with gateway(tmp_path, answer) as served:
        served.record._seconds = 0.5
        served.record._writer._seconds = 0.5
        acknowledged = 0
        for _ in range(2):
            replies = await asyncio.gather(*(served.chat(stream=number % 2 == 0) for number in range(8)))
            assert all("fine" in reply.text and "record_failed" not in reply.text for reply in replies)
            acknowledged += len(replies)
            again = stop(tmp_path)
            replies = await asyncio.gather(*(served.chat(stream=number % 2 == 0) for number in range(4)))
            # A stream that began says so in an event, every other answer by its status.
            assert all("record_failed" in reply.text for reply in replies)
            assert (await served.client.get("/ready")).status_code == 503
            again()
            deadline = time.monotonic() + 20
            while (await served.chat()).status_code != 200:
                assert time.monotonic() < deadline
            acknowledged += 1
        served.record._seconds = 10.0
        assert (await served.chat()).status_code == 200
        assert served.record.verify().problem is None
        assert len(served.entries()) >= acknowledged + 1


def keys(**names: str) -> ClientKeys:
    known = {name: ClientKey(sha256=hashlib.sha256(key.encode()).hexdigest()) for name, key in names.items()}
    return ClientKeys(known, {}, Policy())


class Slow(Words):
    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        time.sleep(0.002)
        return super().__call__(evidence)


@pytest.mark.parametrize("stream", [False, True])
async def test_300_clients_get_right_answers_or_are_told_when_to_come_back(tmp_path: Path, stream: bool) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        word = body["messages"][0]["content"]
        return pieces(delta(f"fine {word}"), *ENDS) if body.get("stream") else whole(message(f"fine {word}"))

    async with gateway(tmp_path, answer, detector=Slow(), keys=keys(a="ka", b="kb"), seconds=300) as served:

        async def ask(number: int) -> tuple[int, str]:
            key = "kb" if number % 10 == 0 else "ka"
            body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": f"w{number}w"}]}
            headers = {"authorization": f"Bearer {key}"}
            response = await served.client.post("/v1/chat/completions", json=body, headers=headers)
            if response.status_code == 200:
                assert f"fine w{number}w" in response.text
                assert "content_filter" not in response.text
            else:
                assert response.headers["retry-after"]
                assert response.json()["error"]["code"] in ("overloaded", "too_many_at_once")
            return response.status_code, key

        results = await asyncio.gather(*(ask(number) for number in range(300)))
        statuses = {status for status, _ in results}
        assert 200 in statuses
        assert statuses <= {200, 429, 503}
        assert len(statuses) > 1, "300 at once are more than the gateway takes"
        # The flood of one key costs the other nothing: its share is its own.
        assert {status for status, key in results if key == "kb"} == {200}
        assert (await ask(1000))[0] == 200


class Paused(httpx.AsyncByteStream):
    """A stream that begins, then is silent until a test lets it go on."""

    def __init__(self, first: bytes, rest: Sequence[bytes]) -> None:
        self.first, self.rest = first, rest
        self.go = asyncio.Event()

    async def __aiter__(self) -> Any:
        yield self.first
        await self.go.wait()
        for part in self.rest:
            yield part


async def test_timed_comments_arrive_while_the_upstream_is_silent(tmp_path: Path) -> None:
    paused = Paused(delta("fine words " * 40), ENDS)

    def answer(body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=paused)

    policy = Policy(stream=StreamPolicy(hold=4, every=2, keepalive=0.01))
    async with gateway(tmp_path, answer, policy=policy) as served:
        client = Asked(served, stream=True)
        several = asyncio.Event()
        sent = client.send

        async def send(event: Any) -> None:
            await sent(event)
            if [part.get("body") for part in client.sent].count(b": keepalive\n\n") >= 3:
                several.set()

        client.send = send  # type: ignore[method-assign]
        task = asyncio.create_task(client.run("2.3"))
        # The upstream sends nothing more until three comments have come, so that these were timed.
        await asyncio.wait_for(several.wait(), 20)
        paused.go.set()
        await asyncio.wait_for(task, 20)
        body = b"".join(part.get("body", b"") for part in client.sent)
        assert body.endswith(b"data: [DONE]\n\n")
        assert body.count(b": keepalive\n\n") >= 3
        # No comment stands within an event.
        assert all(part.startswith((b"data: ", b": keepalive")) for part in body.split(b"\n\n") if part)
