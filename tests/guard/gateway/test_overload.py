"""Too much work is said to be that: an error with a time to come back, never a refusal and never a wrong answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway.concurrency_limit import ConcurrencyLimit, address
from equipoise.guard.gateway.keys import ClientKey, ClientKeys, new
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy, Rail, StreamPolicy
from tests.guard.fakes import Raises, Words
from tests.guard.gateway.upstreams import delta, gateway, message, outcomes, pieces, whole

pytestmark = pytest.mark.anyio
ENDS = [delta(None, finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answer(body: Any) -> httpx.Response:
    return pieces(delta("fine "), delta("words"), *ENDS) if body.get("stream") else whole(message("fine"))


class Waits(Words):
    """Answers once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.entered = threading.Event()

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        self.entered.set()
        self.go.wait(10)
        return super().__call__(evidence)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("waiting", "status", "code"), [(2, 503, "overloaded"), (8, 429, "too_many_at_once")])
async def test_too_many_checks_are_an_error_before_the_upstream_is_asked(
    tmp_path: Path, stream: bool, waiting: int, status: int, code: str
) -> None:
    detector = Waits()
    async with gateway(tmp_path, answer, detector=detector) as served:
        served.service.guard = AsyncGuard(GuardPipeline(detector), seconds=10, waiting=waiting)
        share = 2 if waiting == 2 else 6
        first = [asyncio.create_task(served.chat(stream=stream)) for _ in range(share)]
        while sum(served.service.guard.executor._busy.values()) < share:
            await asyncio.sleep(0.005)
        sent = len(served.fake.requests)
        response = await served.chat(stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert int(response.headers["retry-after"]) > 0
        assert len(served.fake.requests) == sent
        detector.go.set()
        assert [response.status_code for response in await asyncio.gather(*first)] == [200] * share
        assert all("content_filter" not in response.result().text for response in first)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("policy", [Policy(), Policy(stream=StreamPolicy(hold=1, every=1)), Policy(input=Rail())])
async def test_a_check_that_fails_before_anything_left_has_a_status(
    tmp_path: Path, stream: bool, policy: Policy
) -> None:
    async with gateway(tmp_path, answer, policy=policy, detector=Raises()) as served:
        response = await served.chat(stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "check_failed")
        assert response.headers["retry-after"]
        entry = served.entries()[-1]
        assert entry["status"] == 503
        assert "checked" not in outcomes(served).values(), "nobody looked, so nobody says so"
        assert {decision["action"] for decision in entry["decisions"]} == {"withhold"}
        assert len(served.entries()) == 1


class Tires(Words):
    """Fails from the second check on."""

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        if self.texts:
            raise RuntimeError("tired")
        return super().__call__(evidence)


async def test_a_stream_that_began_ends_in_an_error_event(tmp_path: Path) -> None:
    parts = [delta("word " * 10) for _ in range(4)]
    policy = Policy(stream=StreamPolicy(hold=5, every=60))
    async with gateway(tmp_path, lambda body: pieces(*parts, *ENDS), policy=policy, detector=Tires()) as served:
        response = await served.chat(stream=True)
        assert response.status_code == 200
        *documents, done = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
        assert done == "[DONE]"
        assert "word" in documents[0]
        error = json.loads(documents[-1])["error"]
        assert (set(error), error["code"]) == ({"message", "type", "param", "code"}, "check_failed")
        assert "content_filter" not in response.text
        assert "policy" not in response.text
        assert served.entries()[-1]["status"] == 503


async def test_one_client_cannot_take_every_place() -> None:
    go, inside = asyncio.Event(), asyncio.Semaphore(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.release()
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    bounded = ConcurrencyLimit(app, at_once=4)

    def client(host: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=bounded, client=(host, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://g")

    async with client("10.0.0.1") as one, client("10.0.0.2") as other:
        mine = [asyncio.create_task(one.get("/a")) for _ in range(3)]
        for _ in mine:
            await inside.acquire()
        refused = await one.get("/a")
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert refused.headers["retry-after"]
        theirs = asyncio.create_task(other.get("/a"))
        await inside.acquire()
        assert (await other.get("/a")).status_code == 503
        go.set()
        assert {response.status_code for response in await asyncio.gather(*mine, theirs)} == {200}
        assert (await one.get("/a")).status_code == 200


def test_a_client_is_its_key_or_its_network() -> None:
    assert address({"client": ("10.0.0.1", 5)}) == "10.0.0.1"
    assert address({"client": ("2001:db8::1", 5)}) == address({"client": ("2001:db8::ffff", 9)})
    assert address({"client": ("2001:db8:0:1::1", 5)}) != address({"client": ("2001:db8::1", 5)})
    assert address({"client": None}) == ""


async def test_a_key_s_share_is_the_key_s(tmp_path: Path) -> None:
    key, lines = new("team-a")
    keys = ClientKeys({"team-a": ClientKey(sha256=lines.split('"')[1])}, {}, Policy())
    async with gateway(tmp_path, answer, keys=keys) as served:
        headers = [(b"authorization", f"Bearer {key}".encode())]
        who = served.service.client_of
        assert who({"client": ("10.0.0.1", 1), "headers": headers}) == "key team-a"
        assert who({"client": ("10.0.0.2", 1), "headers": [(b"x-api-key", key.encode())]}) == "key team-a"
        assert who({"client": ("10.0.0.2", 1), "headers": [(b"authorization", b"Bearer x")]}) == "10.0.0.2"
