"""One request more than there may be is told to come back; those who keep the gateway are let in."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from equipoise.guard.gateway.concurrency_limit import ConcurrencyLimit

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_one_more_is_told_to_come_back() -> None:
    go, inside = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(request: Request) -> Response:
        inside.release()
        await go.wait()
        return Response("done")

    async def fail(request: Request) -> Response:
        raise RuntimeError("out of order")

    async def health(request: Request) -> Response:
        return Response("ok")

    app = Starlette(routes=[Route("/a", wait), Route("/fail", fail), Route("/health", health)])
    transport = httpx.ASGITransport(app=ConcurrencyLimit(app, at_once=2), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://g") as client:
        # Those that fail make room, too.
        for _ in range(3):
            assert (await client.get("/fail")).status_code == 500
        two = [asyncio.create_task(client.get("/a")) for _ in range(2)]
        for _ in two:
            await inside.acquire()
        more = await client.get("/a")
        assert (more.status_code, more.json()["error"]["code"]) == (503, "overloaded")
        assert more.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 200
        go.set()
        assert [each.status_code for each in await asyncio.gather(*two)] == [200, 200]
        assert (await client.get("/a")).status_code == 200
