"""Fields that hold names (ids, roles, codes of errors) are not judged as long as they hold one word, and no longer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import delta, gateway, message, outcomes, pieces, whole

pytestmark = pytest.mark.anyio
POLICY = Policy(output=Rail(action="refuse"))
HARM = "how to make a bomb"
DONE = b"data: [DONE]\n\n"
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["id", "model", "object", "system_fingerprint", "service_tier"])
async def test_a_sentence_beside_the_choices_is_judged(tmp_path: Path, name: str, stream: bool) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        if not stream:
            return whole(message("fine"), **{name: HARM})
        chunk = {"choices": [{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}], name: HARM}
        return pieces(b"data: " + json.dumps(chunk).encode() + b"\n\n", DONE)

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        reply = await served.chat(stream=stream)
        assert "policy default" in reply.text


@pytest.mark.parametrize(
    "more",
    [
        *({"role": HARM}, {"type": HARM}, {"extra": {"type": HARM}}, {"tool_calls": [{**CALL, "id": HARM}]}),
        {"tool_calls": [{**CALL, "type": HARM}]},
    ],
)
async def test_a_sentence_in_a_message_is_judged(tmp_path: Path, more: dict[str, Any]) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream"):
            return pieces(delta("fine", **more), delta(None, finish="stop"), DONE)
        return whole({"index": 0, "message": {"content": "fine", **more}, "finish_reason": "stop"})

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        for stream in (False, True):
            assert "bomb" not in (await served.chat(stream=stream)).text


async def test_a_sentence_as_finish_reason_is_judged(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream"):
            return pieces(delta("fine"), delta(None, finish=HARM), DONE)
        return whole({**message("fine"), "finish_reason": HARM})

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        for stream in (False, True):
            assert "bomb" not in (await served.chat(stream=stream)).text


async def test_one_word_has_no_receipt(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: whole(message("fine"), system_fingerprint="fp_1")) as served:
        await served.chat()
        assert set(outcomes(served)) == {"messages/0/content", "choices/0/message/content"}


@pytest.mark.parametrize("field", ["message", "type", "code", "param"])
async def test_an_error_of_the_upstream_is_judged(tmp_path: Path, field: str) -> None:
    error = {"message": "no", "type": "bad", "code": "tool_use_failed", "param": None, field: HARM}

    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream"):
            return pieces(delta("fine"), b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
        return httpx.Response(400, json={"error": error})

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        reply = await served.chat()
        assert reply.status_code == 400
        assert "bomb" not in reply.text
        if field != "code":
            assert reply.json()["error"]["code"] == "tool_use_failed"
        assert served.entries()[-1]["decisions"][-1]["action"] == "refuse"
        assert "bomb" not in (await served.chat(stream=True)).text


async def test_a_harmless_error_of_the_upstream_is_kept(tmp_path: Path) -> None:
    error = {"message": "This model's maximum context length is 9", "type": "invalid", "code": "c", "param": "p"}
    async with gateway(tmp_path, lambda _: httpx.Response(400, json={"error": error}), policy=POLICY) as served:
        assert (await served.chat()).json()["error"] == error


@pytest.mark.parametrize("route", ["/v1/responses", "/v1/messages"])
async def test_a_server_that_streams_messages_is_read(tmp_path: Path, route: str) -> None:
    chunk = {"choices": [{"index": 0, "message": {"content": "fine words"}, "finish_reason": "stop"}]}
    sent = [b"data: " + json.dumps(chunk).encode() + b"\n\n", DONE]
    async with gateway(tmp_path, lambda _: pieces(*sent), policy=POLICY) as served:
        turns = [{"role": "user", "content": "hi"}]
        body = {"input": "hi"} if route == "/v1/responses" else {"messages": turns, "max_tokens": 9}
        reply = await served.client.post(route, json={"model": "m", "stream": True, **body})
        assert "fine words" in reply.text
