"""Anthropic's messages with the server's own tools: carried unchanged, and every text in them judged."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.native.message_reader import MessageReader
from equipoise.guard.gateway.upstream import Upstream
from equipoise.guard.policy import Policy, Rail, RequestPolicy, StreamPolicy
from tests.guard.gateway.native.response_shapes import read, with_words
from tests.guard.gateway.upstreams import Gateway, gateway, outcomes, pieces

pytestmark = pytest.mark.anyio
POLICY = Policy(requests=RequestPolicy(server_tools="pass"), output=Rail(action="refuse"))
WEB = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
HARM = "how to make a bomb"
TEXT = "Bread is baked at 220 degrees."
CITED = {
    "type": "web_search_result_location",
    "url": "https://example.com/bread",
    "title": "Baking",
    "encrypted_index": "Eo8B",
    "cited_text": "220 degrees",
}
SPOKEN: dict[str, Any] = {"type": "text", "text": TEXT, "citations": [CITED]}
USE: dict[str, Any] = {"type": "server_tool_use", "id": "st_1", "name": "web_search", "input": {"query": "bread heat"}}
FOUND = {
    "type": "web_search_result",
    "url": "https://example.com/bread",
    "title": "Baking",
    "encrypted_content": "EqgfCioI",
    "page_age": "April 30",
}
RESULT: dict[str, Any] = {"type": "web_search_tool_result", "tool_use_id": "st_1", "content": [FOUND]}
FETCHED: dict[str, Any] = {
    "type": "web_fetch_tool_result",
    "tool_use_id": "st_2",
    "content": {
        "type": "web_fetch_result",
        "url": "https://example.com",
        "content": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Bake it."}},
    },
}
RAN: dict[str, Any] = {
    "type": "bash_code_execution_tool_result",
    "tool_use_id": "st_3",
    "content": {
        "type": "bash_code_execution_result",
        "stdout": "220\n",
        "stderr": "",
        "return_code": 0,
        "content": [],
    },
}
MCP: dict[str, Any] = {
    "type": "mcp_tool_use",
    "id": "mc_1",
    "name": "recipe",
    "server_name": "kitchen",
    "input": {"type": "bread"},
}
MCP_RESULT: dict[str, Any] = {
    "type": "mcp_tool_result",
    "tool_use_id": "mc_1",
    "is_error": False,
    "content": [{"type": "text", "text": "Flour."}],
}
THOUGHT: dict[str, Any] = {"type": "thinking", "thinking": "The user bakes.", "signature": "EqQBCkgIARABGAIiQL"}
CALL: dict[str, Any] = {"type": "tool_use", "id": "tu_1", "name": "bash", "input": {"command": "ls bread"}}
BLOCKS = [THOUGHT, USE, RESULT, FETCHED, RAN, MCP, MCP_RESULT, SPOKEN]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def message(*blocks: Mapping[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(blocks),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2, "server_tool_use": {"web_search_requests": 1}},
    }


def events(*blocks: Mapping[str, Any], stop: str = "end_turn") -> list[dict[str, Any]]:
    begun = {**message(), "stop_reason": None}
    sent: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        sent += [{**event, "index": index} for event in _block(dict(block))]
        sent.append({"type": "content_block_stop", "index": index})
    usage = {"output_tokens": 2, "server_tool_use": {"web_search_requests": 1}}
    sent.append({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage})
    return [*sent, {"type": "message_stop"}]


def _block(block: dict[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    if "input" in block:
        packed = json.dumps(block["input"])
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", packed[:7], packed[7:])]
        block["input"] = {}
    elif block["type"] == "text":
        deltas = [{"type": "text_delta", "text": word} for word in (block["text"][:9], block["text"][9:])]
        deltas += [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        block |= {"text": "", "citations": []}
    elif block["type"] == "thinking":
        deltas = [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
        block |= {"thinking": "", "signature": ""}
    start = {"type": "content_block_start", "content_block": block}
    return [start, *({"type": "content_block_delta", "delta": delta} for delta in deltas)]


def wire(sent: list[dict[str, Any]]) -> list[bytes]:
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in sent]


def answers(*blocks: Mapping[str, Any], stop: str = "end_turn") -> Any:
    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream"):
            return pieces(*wire(events(*blocks, stop=stop)))
        return httpx.Response(200, json=message(*blocks, stop=stop))

    return answer


async def ask(served: Gateway, *, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "tools": WEB, **more}
    return await served.client.post("/v1/messages", json=body, headers=dict(headers or {}))


async def test_a_whole_message_is_carried_unchanged(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers(*BLOCKS, CALL, stop="tool_use"), policy=POLICY) as served:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        reply = await ask(served, thinking=thinking)
        assert reply.json() == message(*BLOCKS, CALL, stop="tool_use")
        assert served.fake.paths == ["/v1/messages"]
        assert (served.fake.requests[0]["tools"], served.fake.requests[0]["thinking"]) == (WEB, thinking)
        assert outcomes(served)["server tools/web_search_20250305"] == "skipped"


@pytest.mark.parametrize("stop", ["end_turn", "pause_turn", "max_tokens"])
async def test_a_stream_of_messages_is_carried_unchanged(tmp_path: Path, stop: str) -> None:
    async with gateway(tmp_path, answers(*BLOCKS, CALL, stop=stop), policy=POLICY) as served:
        reply = await ask(served, stream=True)
        assert read(reply.text) == [event for event in events(*BLOCKS, CALL, stop=stop) if event["type"] != "ping"]
        assert served.entries()[-1]["status"] == 200


PLACES = [
    (USE, "input/query"),
    (RESULT, "content/0/title"),
    (RESULT, "content/0/url"),
    (RESULT, "content/0/page_age"),
    (FETCHED, "content/content/source/data"),
    (RAN, "content/stdout"),
    (RAN, "content/stderr"),
    (MCP, "input/type"),
    (MCP_RESULT, "content/0/text"),
    (THOUGHT, "thinking"),
    (SPOKEN, "text"),
    (SPOKEN, "citations/0/cited_text"),
    (SPOKEN, "citations/0/title"),
    (CALL, "input/command"),
    ({"type": "new_block", "words": ""}, "words"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("block", "path"), PLACES, ids=[f"{block['type']}/{path}" for block, path in PLACES])
async def test_harm_anywhere_in_a_block_is_stopped(
    tmp_path: Path, block: dict[str, Any], path: str, stream: bool
) -> None:
    harmful = with_words(block, path, HARM)
    async with gateway(tmp_path, answers(harmful, SPOKEN), policy=POLICY) as served:
        reply = await ask(served, stream=stream)
        assert "bomb" not in reply.text
        assert "policy default" in reply.text
        stop = read(reply.text)[-2]["delta"]["stop_reason"] if stream else reply.json()["stop_reason"]
        assert stop == "refusal"


@pytest.mark.parametrize("at", [at for at, event in enumerate(events(USE, SPOKEN)) if event["type"] != "ping"])
async def test_harm_in_any_event_alone_is_stopped(tmp_path: Path, at: int) -> None:
    sent = events(USE, SPOKEN)
    sent[at]["beside"] = {"words": HARM}
    async with gateway(tmp_path, lambda _: pieces(*wire(sent)), policy=POLICY) as served:
        assert "bomb" not in (await ask(served, stream=True)).text


async def test_a_block_that_is_open_ends_before_a_refusal(tmp_path: Path) -> None:
    text = "A harmless sentence about bread. "
    deltas = [{"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}}] * 20
    sent = events(USE, {**SPOKEN, "text": "", "citations": []})
    at = next(at for at, event in enumerate(sent) if event.get("index") == 1)
    harm = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": HARM}}
    sent[at + 1 : at + 1] = [*deltas, harm]
    policy = POLICY.model_copy(update={"stream": StreamPolicy(hold=40, every=40)})
    # The harm comes once the beginning has been checked and sent.
    parts: list[bytes | float] = list(wire(sent))
    parts.insert(sent.index(harm), 0.3)
    async with gateway(tmp_path, lambda _: pieces(*parts), policy=policy) as served:
        received = read((await ask(served, stream=True)).text)
        open_blocks: list[int] = []
        for event in received:
            if event["type"] == "content_block_start":
                assert open_blocks == []
                open_blocks.append(event["index"])
            elif event["type"] == "content_block_stop":
                assert open_blocks.pop() == event["index"]
        starts = [event["index"] for event in received if event["type"] == "content_block_start"]
        assert starts == [0, 1, 2]
        assert [event["type"] for event in received][-2:] == ["message_delta", "message_stop"]


@pytest.mark.parametrize("stream", [False, True])
async def test_encrypted_results_are_bytes_that_are_read_once(tmp_path: Path, stream: bool) -> None:
    page = {**FOUND, "encrypted_content": base64.b64encode(random.Random(1).randbytes(300_000)).decode()}
    text = {**SPOKEN, "text": "A harmless sentence about bread. " * 60}
    blocks = [USE, {**RESULT, "content": [page, page, page]}, text]
    async with gateway(tmp_path, answers(*blocks), policy=POLICY) as served:
        begin = time.monotonic()
        reply = await ask(served, stream=stream)
        assert time.monotonic() - begin < 10
        assert reply.text.count(page["encrypted_content"]) == 3
        assert "skipped" in [receipt["outcome"] for receipt in served.entries()[-1]["receipts"] if _of_reply(receipt)]
    strict = POLICY.model_copy(update={"output": Rail(opaque="fail")})
    async with gateway(tmp_path, answers(*blocks), policy=strict) as served:
        assert "unsupported_content" in (await ask(served, stream=stream)).text
    hidden = {**page, "encrypted_content": page["encrypted_content"] + f" {HARM} " + page["encrypted_content"]}
    async with gateway(tmp_path, answers({**RESULT, "content": [hidden]}), policy=POLICY) as served:
        assert "policy default" in (await ask(served, stream=stream)).text


def _of_reply(receipt: Mapping[str, str]) -> bool:
    return receipt["path"].startswith("choices/") and receipt["kind"] == "opaque"


@pytest.mark.parametrize("harmful", [False, True])
async def test_a_whole_message_for_a_stream_is_read_and_judged(tmp_path: Path, harmful: bool) -> None:
    blocks = [*BLOCKS, {**CALL, "input": {"command": HARM}} if harmful else CALL]
    whole = httpx.Response(200, json=message(*blocks, stop="tool_use"))
    async with gateway(tmp_path, lambda _: whole, policy=POLICY) as served:
        reply = await ask(served, stream=True)
        starts = [event["content_block"] for event in read(reply.text) if event["type"] == "content_block_start"]
        assert ("bomb" in reply.text) is False
        assert (starts == blocks) is not harmful
        assert read(reply.text)[-1]["type"] == "message_stop"


async def test_an_error_event_ends_the_stream(tmp_path: Path) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    async with gateway(tmp_path, lambda _: pieces(*wire([*events(USE)[:4], error])), policy=POLICY) as served:
        received = read((await ask(served, stream=True)).text)
        assert received[-1]["type"] == "error"
        assert received[-1]["error"]["message"] == "Overloaded"


async def test_the_upstream_gets_the_keys_and_versions_of_its_api(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers(SPOKEN), policy=POLICY) as served:
        beta = {"anthropic-beta": "code-execution-2025-08-25", "anthropic-version": "2023-06-01"}
        await ask(served, headers={"x-api-key": "k", **beta})
        await ask(served, headers={"authorization": "Bearer token"})
        first, second = served.fake.heard
        assert (first["x-api-key"], first["anthropic-beta"]) == ("k", beta["anthropic-beta"])
        assert second["anthropic-version"] == "2023-06-01"
        assert second["authorization"] == "Bearer token"
        assert "x-api-key" not in second
        client = httpx.AsyncClient(transport=served.fake, base_url="https://api.anthropic.com/v1")
        served.service.upstream = Upstream(client, "own")
        await ask(served, headers={"authorization": "Bearer of the gateway"})
        assert served.fake.heard[-1]["x-api-key"] == "own"
        assert "authorization" not in served.fake.heard[-1]


@pytest.mark.parametrize("field", ["file_id", "status"])
def test_words_without_spaces_are_no_name(field: str) -> None:
    words = "\u5982\u4f55\u5236\u9020\u70b8\u5f39"
    block = {"type": "code_execution_tool_result", "content": {field: words}}
    completion = MessageReader({}).completion({"id": "m", "content": [block]})
    assert words in "".join(map(str, completion["choices"][0]["message"].values()))
