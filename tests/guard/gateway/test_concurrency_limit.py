"""One request more than there may be is told to come back; those who keep the gateway are let in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from equipoise.errors import OutputError
from equipoise.guard.gateway.concurrency_limit import ConcurrencyLimit
from equipoise.guard.gateway.errors import RequestProblem
from tests.guard.gateway.upstreams import gateway, says

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
        assert [response.status_code for response in await asyncio.gather(*two)] == [200, 200]
        assert (await client.get("/a")).status_code == 200


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/v1/messages", "/v1/messages"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/models/a/b", "/v1/models/{name}"),
        ("/openai/deployments/d/chat/completions", "/openai/deployments/{name}/chat/completions"),
        ("/of/nobody", "other"),
    ],
)
async def test_an_overload_is_counted(tmp_path: Path, path: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConcurrencyLimit, "_full", lambda self, who: busy())
    async with gateway(tmp_path, says("hi")) as served:
        await served.client.post(path, json={})
        metrics = (await served.client.get("/metrics")).text
    assert f'equipoise_requests_total{{route="{label}",status="503"}} 1.0' in metrics


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/completions", "/v1/chat/completions"])
async def test_an_overload_has_the_form_of_the_routes_api(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConcurrencyLimit, "_full", lambda self, who: busy())
    async with gateway(tmp_path, says("hi")) as served:
        response = await served.client.post(path, json={})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    body = response.json()
    if path == "/v1/messages":
        assert (body["type"], body["error"]["type"]) == ("error", "overloaded_error")
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/messages", 405), ("POST", "/v1/messages/x", 404)])
async def test_what_is_no_route_has_the_form_of_the_api_above_it(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with gateway(tmp_path, says("hi")) as served:
        response = await served.client.request(method, path)
    assert response.status_code == status
    assert (response.json()["type"], set(response.json()["error"])) == ("error", {"type", "message", "code"})


async def test_an_answer_that_cannot_be_recorded_has_the_form_of_the_routes_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, says("hi")) as served:

        async def fail(entry: Any) -> Any:
            raise OutputError("no space")

        monkeypatch.setattr(served.record, "aappend", fail)
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        response = await served.client.post("/v1/messages", json=body)
    assert (response.status_code, response.json()["type"]) == (503, "error")
    assert response.headers["retry-after"] == "5"


def busy() -> RequestProblem:
    return RequestProblem(503, "too many requests at once", "overloaded", {"retry-after": "1"})
