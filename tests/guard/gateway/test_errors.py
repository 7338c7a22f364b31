"""Errors have OpenAI's shape, whether the client, the upstream or the gateway is to blame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.guard.gateway.upstreams import delta, gateway, message, pieces, says, whole

pytestmark = pytest.mark.anyio
ENDS = [delta(None, finish="stop"), b"data: [DONE]\n\n"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (httpx.Response(500, html="<h1>no"), 500, "upstream_error"),
        (httpx.Response(404, json={"error": {"message": "no m", "code": "model_not_found"}}), 404, "model_not_found"),
        (httpx.Response(429, text="slow", headers={"retry-after": "7"}), 429, "upstream_error"),
        (httpx.Response(302, headers={"location": "http://10.0.0.1"}), 502, "upstream_invalid"),
        (httpx.Response(200, content=b"\xff\xfe"), 502, "upstream_invalid"),
        (httpx.Response(200, json=[]), 502, "upstream_invalid"),
        (httpx.Response(200, content=b'{"choices": [], "choices": []}'), 502, "upstream_invalid"),
        (httpx.Response(200, json={"choices": None}), 502, "upstream_invalid"),
        (httpx.Response(200, json={"choices": [{"message": 1}]}), 502, "upstream_invalid"),
        (httpx.Response(200, json={"choices": [], "words": "a bomb"}), 502, "upstream_invalid"),
        (httpx.ConnectError("no"), 502, "upstream_unreachable"),
        (httpx.RemoteProtocolError("half"), 502, "upstream_unreachable"),
        (httpx.ReadTimeout("silent"), 504, "upstream_timeout"),
    ],
)
async def test_an_upstream_out_of_order_is_an_error_in_shape(
    tmp_path: Path, answer: Any, status: int, code: str
) -> None:
    def answers(body: Any) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with gateway(tmp_path, answers) as served:
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.headers.get("retry-after") == ("7" if status == 429 else None)
        assert served.entries()[-1]["status"] == status


async def test_a_reply_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.guard.gateway.upstream.LARGEST", 1000)
    async with gateway(tmp_path, lambda body: pieces(*[b" " * 400] * 5, kind="application/json")) as served:
        assert (await served.chat()).status_code == 502


async def test_a_stream_that_was_not_asked_for_and_one_that_does_not_come(tmp_path: Path) -> None:
    async with gateway(
        tmp_path, lambda body: pieces(delta("x"), *ENDS) if not body.get("stream") else whole(message("x"))
    ) as served:
        assert (await served.chat()).json()["choices"][0]["message"]["content"] == "x"
        assert '"content":"x"' in (await served.chat(stream=True)).text


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/v1/embeddings", b"{}", 404),
        ("GET", "/v1/chat/completions", b"", 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", b'{"messages": []}', 400),
        ("POST", "/v1/chat/completions", b'{"messages": NaN}', 400),
        ("POST", "/v1/chat/completions", b"[" * 50_000, 400),
        ("POST", "/v1/chat/completions", b"\xff", 400),
        ("POST", "/v1/moderations", b"{}", 400),
    ],
)
async def test_errors_have_one_shape(tmp_path: Path, method: str, path: str, content: bytes, status: int) -> None:
    async with gateway(tmp_path, says("hi")) as served:
        response = await served.client.request(method, path, content=content)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_request_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.guard.gateway.request_body.LARGEST", 100)
    async with gateway(tmp_path, says("hi")) as served:
        assert (await served.chat("x" * 200)).status_code == 413


async def test_models_health_readiness_and_metrics(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("a bomb")) as served:
        assert (await served.client.get("/v1/models")).json()["data"][0]["id"] == "m"
        assert (await served.client.get("/health")).status_code == 200
        assert (await served.client.get("/ready")).json() == {"status": "ok", "problems": []}
        await served.chat()
        metrics = (await served.client.get("/metrics")).text
        assert 'equipoise_decisions_total{action="refuse",by="words",rail="output"} 1.0' in metrics
        assert 'equipoise_receipts_total{outcome="checked"} 1.0' in metrics


@pytest.mark.parametrize(
    ("answer", "status"),
    [(httpx.Response(500, text="Internal Server Error"), 500), (httpx.Response(200, html="<p>"), 502)],
)
async def test_models_of_an_upstream_out_of_order_are_an_error_in_shape(
    tmp_path: Path, answer: httpx.Response, status: int
) -> None:
    async with gateway(tmp_path, says("")) as served:
        served.fake.models = answer
        response = await served.client.get("/v1/models")
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
