"""An error that a server reports within a choice is an error of the other APIs, whose replies have no place for it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.dialect_shapes import chunk, reply, wire
from tests.guard.gateway.upstreams import gateway, pieces

pytestmark = pytest.mark.anyio
FAILED = {"finish_reason": "error", "error": {"code": 503, "message": "The provider is down"}}
INPUTS = {"/v1/messages": {"messages": [{"role": "user", "content": "hi"}]}, "/v1/responses": {"input": "hi"}} | {
    "/v1/completions": {"prompt": "hi"}
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("route", INPUTS)
async def test_a_whole_reply_has_the_status_of_its_error(tmp_path: Path, route: str) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("", FAILED))) as served:
        response = await served.client.post(route, json={"model": "m", "max_tokens": 9, **INPUTS[route]})
        assert (response.status_code, response.json()["error"]["message"]) == (503, "The provider is down")
        assert "x-equipoise-request-id" in response.headers


@pytest.mark.parametrize("route", INPUTS)
@pytest.mark.parametrize("words", ["The provider is down", "a bomb"])
async def test_a_stream_ends_with_its_error_which_is_judged(tmp_path: Path, route: str, words: str) -> None:
    failed = json.loads(json.dumps(FAILED).replace("The provider is down", words))
    parts = [chunk({"content": "Mix"}), chunk({}, "error", failed)]
    refuses = Policy(output=Rail(action="refuse"))
    async with gateway(tmp_path, lambda _: pieces(*wire(parts)), policy=refuses) as served:
        body = {"model": "m", "max_tokens": 9, "stream": True, **INPUTS[route]}
        text = (await served.client.post(route, json=body)).text
        assert (words in text) == (words != "a bomb")
        if words != "a bomb":
            assert "message_stop" not in text
            assert "response.completed" not in text
