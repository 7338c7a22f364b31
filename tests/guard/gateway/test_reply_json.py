"""Numbers that JSON cannot say, or that fit into no number of a client, are null wherever a reply is written again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.reply_json import reply_json, strict_reply_json
from tests.guard.gateway.upstreams import delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
NUMBERS = ["1e999", "-1e999", "Infinity", "-Infinity", "NaN", "9" * 30, "9" * 5001, "-" + "9" * 25]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def finite(text: str) -> Any:
    """The document in a text without the constants that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_nobody_can_hold_are_null(number: str) -> None:
    for read in (reply_json, strict_reply_json):
        assert read(f'{{"a": [{number}, 1.5, 7, {2**63}]}}') == {"a": [None, 1.5, 7, 2**63]}
        assert read(f'{{"a": {number}}}'.encode("utf-16")) == {"a": None}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("harm", [False, True])
@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_with_such_a_number_is_written_again(
    tmp_path: Path, path: str, number: str, *, harm: bool, stream: bool
) -> None:
    text = "a bomb" if harm else "fine"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 77}
    tokens = {"content": [{"token": "a", "logprob": 77}]}

    def answer(body: dict[str, Any]) -> httpx.Response:
        if stream:
            event = delta(text, finish="stop", logprobs=tokens).replace(b"77", number.encode())
            return pieces(event, b"data: [DONE]\n\n")
        reply = whole({**message(text), "logprobs": tokens}, usage=usage)
        return httpx.Response(200, content=reply.content.replace(b"77", number.encode()), headers=reply.headers)

    async with gateway(tmp_path, answer) as served:
        body = {"model": "m", "moderation": {}, **ROUTES[path], "stream": stream}
        response = await served.client.post(path, json=body)
        assert response.status_code == 200, response.text
        lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")] if stream else []
        for line in lines or [response.text]:
            finite(line)
        assert "the upstream" not in response.text


@pytest.mark.parametrize("path", ROUTES)
async def test_a_request_with_an_infinite_number_is_refused(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, lambda body: whole(message("fine"))) as served:
        body = json.dumps({"model": "m", **ROUTES[path], "metadata": {"a": 77}}).replace("77", "1e999")
        assert (await served.client.post(path, content=body)).status_code == 400
