"""Bodies that come too slowly, or too many bytes at once, end in an error; what they held is free again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from equipoise.guard.bounded_executor import CLIENT
from equipoise.guard.gateway import request_body
from equipoise.guard.gateway.body_budget import BodyBudget
from equipoise.guard.gateway.errors import RequestProblem
from tests.guard.gateway.upstreams import Gateway, gateway, says

pytestmark = pytest.mark.anyio
BODY = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def send(served: Gateway, *parts: bytes | float, path: str = "/v1/chat/completions") -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                yield part

    return await served.client.post(path, content=body())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/moderations"])
async def test_a_body_that_stops_is_given_up(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 0.05)
    async with gateway(tmp_path, says("fine")) as served:
        response = await asyncio.wait_for(send(served, b"{", 30.0, BODY[1:], path=path), 20)
        assert (response.status_code, response.headers["connection"]) == (408, "close")
        assert not served.fake.requests
        assert not served.service.bodies._held
        text = (await served.client.get("/metrics")).text
        assert f'equipoise_requests_total{{route="{path}",status="408"}} 1.0' in text


async def test_a_body_that_trickles_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 0.1)
    async with gateway(tmp_path, says("fine")) as served:
        parts: list[bytes | float] = [part for _ in range(200) for part in (b" ", 0.05)]
        assert (await asyncio.wait_for(send(served, *parts, BODY), 8)).status_code == 408


async def test_a_long_body_has_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "PATIENCE", 0.2)
    monkeypatch.setattr(request_body, "SLOWEST", 100)
    async with gateway(tmp_path, says("fine")) as served:
        assert (await send(served, b" " * 1000, 0.5, BODY)).status_code == 200


async def test_bytes_on_their_way_are_bounded_in_all_and_for_each_client(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        served.service.bodies = BodyBudget(1000)
        refused = await send(served, b" " * 900, BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_at_once")
        assert (await send(served, BODY)).status_code == 200
        assert not served.service.bodies._held


def test_the_bytes_of_all_clients_count_together() -> None:
    budget = BodyBudget(1000)
    with budget.body() as first:
        first.take(600)
        token = CLIENT.set("another")
        with budget.body() as second:
            second.take(300)
            with pytest.raises(RequestProblem) as raised:
                second.take(200)
            assert (raised.value.status, raised.value.code) == (503, "overloaded")
        CLIENT.reset(token)
        first.take(100)
