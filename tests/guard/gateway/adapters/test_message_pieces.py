"""Tool calls, reasoning, sources and counts of every dialect are whole in the other APIs, streamed or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.adapters.message_pieces import ToolCalls, pieces_of
from equipoise.guard.gateway.adapters.messages import arguments_of
from equipoise.guard.gateway.adapters.messages_stream import ending, error_type, tokens
from tests.guard.gateway.dialect_shapes import chunk, wire
from tests.guard.gateway.upstreams import gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
INPUTS = {"/v1/messages": {"messages": [{"role": "user", "content": "hi"}]}, "/v1/responses": {"input": "hi"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def call(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


TWO = [("f", '{"x": 1}'), ("g", '{"y": 2}')]
SHAPES: dict[str, list[list[dict[str, Any]]]] = {
    "an index for each": [
        [call("f", "", index=0, id="a")],
        [call("g", "", index=1, id="b")],
        [call(None, '{"x": 1}', index=0)],
        [call(None, '{"y": 2}', index=1)],
    ],
    "no index": [[call("f", '{"x":', index=None, id="a")], [call(None, " 1}", index=None)], [call(*TWO[1], id="b")]],
    "one index for all": [[call(*TWO[0], index=0, id="a")], [call(*TWO[1], index=0, id="b")]],
    "one index and no ids": [[call(*TWO[0], index=0, id="")], [call(*TWO[1], index=0, id="")]],
    "ids and names repeated": [
        [call("f", '{"x":', index=0, id="a")],
        [call("f", " 1}", index=0, id="a"), call("g", '{"y": 2}', index=1, id="b")],
        [call("g", "", index=1, id="b")],
    ],
    "objects without index and id": [[call("f", {"x": 1}), call("g", {"y": 2})]],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_two_calls_stay_two(shape: str) -> None:
    calls = ToolCalls()
    for delta in SHAPES[shape]:
        calls.add({"tool_calls": delta})
    assert [(each_call.name, each_call.arguments) for each_call in calls.all()] == TWO
    assert len({each_call.id for each_call in calls.all()}) == 2
    assert all(each_call.id for each_call in calls.all())


@pytest.mark.parametrize("route", INPUTS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_of_a_stream_reach_the_client(tmp_path: Path, route: str, shape: str) -> None:
    # Servers of these shapes end with `stop`, too: a client runs the calls only if the reason says so.
    parts = [*(chunk({"tool_calls": delta}) for delta in SHAPES[shape]), chunk({}, "stop")]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts))) as served:
        body = {"model": "m", "stream": True, "max_tokens": 9, **INPUTS[route]}
        text = (await served.client.post(route, json=body)).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        if route == "/v1/messages":
            given = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
            assert events[-2]["delta"]["stop_reason"] == "tool_use"
        else:
            given = [item["arguments"] for item in events[-1]["response"]["output"]]
        assert given == [arguments for _, arguments in TWO]


@pytest.mark.parametrize("route", INPUTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_call_of_the_api_before_tools_reaches_the_client(tmp_path: Path, route: str, stream: bool) -> None:
    legacy = {"function_call": {"name": "f", "arguments": '{"x": 1}'}}

    def answer(_: Any) -> httpx.Response:
        last = "function_call"
        return (
            pieces(*wire([chunk(legacy), chunk({}, last)]))
            if stream
            else whole({**message(None, **legacy), "finish_reason": last})
        )

    async with gateway(tmp_path, answer) as served:
        text = (await served.client.post(route, json={"model": "m", "stream": stream, **INPUTS[route]})).text
        assert '"name":"f"' in text
        assert "x" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"x": 1}', {"x": 1}),
        ("", {}),
        (" ", {}),
        ("null", {}),
        ("[1]", {"arguments": "[1]"}),
        ('{"x": NaN}', {"arguments": '{"x": NaN}'}),
        ("{half", {"arguments": "{half"}),
        ("[" * 100_000, {"arguments": "[" * 100_000}),
    ],
)
def test_the_input_of_a_tool_is_an_object(text: str, value: Any) -> None:
    assert arguments_of(text) == value


@pytest.mark.parametrize(
    ("choice", "sequences", "calls", "expected"),
    [
        ({"finish_reason": "stop"}, ["END"], False, ("end_turn", None)),
        ({"finish_reason": "stop", "stop_reason": "END"}, ["END"], False, ("stop_sequence", "END")),
        ({"finish_reason": "stop", "matched_stop": "END"}, ["END"], False, ("stop_sequence", "END")),
        ({"finish_reason": "stop", "stop_reason": 128009}, ["END"], False, ("end_turn", None)),
        ({"finish_reason": "stop", "stop_reason": "a bomb"}, None, False, ("end_turn", None)),
        ({"finish_reason": "model_length"}, [], False, ("max_tokens", None)),
        ({"finish_reason": "length"}, [], True, ("max_tokens", None)),
    ],
)
def test_the_reason_of_an_end(choice: Any, sequences: Any, calls: bool, expected: tuple[str, str | None]) -> None:
    assert tuple(ending(choice, {"stop_sequences": sequences}, calls=calls).values()) == expected


def test_counts_of_tokens_tell_cached_ones_apart() -> None:
    usage: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    assert tokens(usage) == {"input_tokens": 6, "output_tokens": 5, "cache_read_input_tokens": 4}
    assert tokens({"prompt_tokens": "10", "prompt_tokens_details": []}) == {"input_tokens": 0, "output_tokens": 0}


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "I think.", "reasoning": "I think."},
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": "I think.", "signature": "s"}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "I think.", "signature": "s"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "I think."}]}]},
    ],
)
def test_reasoning_comes_once_from_whichever_field(fields: dict[str, Any]) -> None:
    assert list(pieces_of(fields)) == [("reasoning", "I think.")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("index", [None, "0"])
async def test_sources_and_a_choice_without_a_number_reach_a_response(tmp_path: Path, stream: bool, index: Any) -> None:
    source = {"url": "https://example.com/bread", "title": "Bread", "start_index": 0, "end_index": 4}
    fields = {"content": "fine", "annotations": [{"type": "url_citation", "url_citation": source}]}

    def answer(_: Any) -> httpx.Response:
        parts = [chunk(fields, choice={"index": index}), chunk({}, "stop", {"index": index})]
        return pieces(*wire(parts)) if stream else whole({**message(None), "message": fields, "index": index})

    async with gateway(tmp_path, answer) as served:
        text = (await served.client.post("/v1/responses", json={"model": "m", "input": "x", "stream": stream})).text
        response = json.loads(text.splitlines()[-2][6:])["response"] if stream else json.loads(text)
        (part,) = response["output"][0]["content"]
        assert (part["text"], part["annotations"]) == ("fine", [{**source, "type": "url_citation"}])


async def test_infinite_log_probabilities_do_not_break_other_apis(tmp_path: Path) -> None:
    tokens_of = {"content": [{"token": "fine", "logprob": float("-inf"), "top_logprobs": []}]}
    body = json.dumps({"id": "c1", "choices": [{**message("fine"), "logprobs": tokens_of}], "model": "m"})
    async with gateway(tmp_path, lambda _: httpx.Response(200, text=body)) as served:
        reply = await served.client.post("/v1/completions", json={"model": "m", "prompt": "x", "logprobs": 1})
        assert (reply.status_code, reply.json()["choices"][0]["logprobs"]["token_logprobs"]) == (200, [None])


@pytest.mark.parametrize(
    ("choice", "status", "sent"),
    [
        ({"type": "function", "name": "f"}, 200, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            200,
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
        ({"type": "web_search_preview"}, 400, None),
    ],
)
async def test_the_choice_of_a_tool(tmp_path: Path, choice: Any, status: int, sent: Any) -> None:
    async with gateway(tmp_path, lambda _: whole(message("fine"))) as served:
        body = {"model": "m", "input": "x", "tool_choice": choice}
        assert (await served.client.post("/v1/responses", json=body)).status_code == status
        assert [request["tool_choice"] for request in served.fake.requests] == ([] if sent is None else [sent])


async def test_content_that_is_one_text_is_sent_as_a_text(tmp_path: Path) -> None:
    def text(words: str) -> list[dict[str, Any]]:
        return [{"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}]

    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]}
    result = {"type": "tool_result", "tool_use_id": "t", "content": text("rain")}
    call_block = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    history = [
        {"role": "user", "content": text("one")},
        {"role": "assistant", "content": [*text("two"), call_block]},
        {"role": "user", "content": [result, *text("three"), *text("four")]},
        thought,
    ]
    async with gateway(tmp_path, lambda _: whole(message("fine"))) as served:
        body = {"model": "m", "max_tokens": 9, "system": text("Be brief."), "messages": history}
        assert (await served.client.post("/v1/messages", json=body)).status_code == 200
        sent = [(each_message["role"], each_message["content"]) for each_message in served.fake.requests[0]["messages"]]
        four = [{"type": "text", "text": "three"}, {"type": "text", "text": "four"}]
        assert sent == [
            *(("system", "Be brief."), ("user", "one"), ("assistant", "two")),
            *(("tool", "rain"), ("user", four)),
        ]


async def test_what_chat_servers_refuse_is_not_sent(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: whole(message("fine"))) as served:
        tools: list[Any] = [{"type": "function", "name": "f", "parameters": None, "strict": None}]
        await served.client.post("/v1/responses", json={"model": "m", "input": "x", "tools": tools})
        assert served.fake.requests[-1]["tools"] == [{"type": "function", "function": {"name": "f"}}]
        body = {"model": "m", "max_tokens": 9, **INPUTS["/v1/messages"]}
        tools = [{"type": None, "name": "f", "input_schema": {"type": "object"}}]
        users = []
        for user in ("ann", "a" * 65, "a" * 65, "b" * 65):
            more = {"metadata": {"user_id": user}, "tools": tools}
            assert (await served.client.post("/v1/messages", json={**body, **more})).status_code == 200
            users.append(served.fake.requests[-1]["user"])
        assert users[0] == "ann"
        assert users[1] == users[2] != users[3]
        assert {len(user) for user in users[1:]} == {64}


@pytest.mark.parametrize(
    ("status", "code", "given", "expected"),
    [
        (None, "upstream", "overloaded_error", "overloaded_error"),
        (None, "upstream", "server_error", "api_error"),
        (529, 529, None, "overloaded_error"),
        (503, "overloaded", None, "overloaded_error"),
        (429, 429, "RESOURCE_EXHAUSTED", "rate_limit_error"),
        (422, None, None, "invalid_request_error"),
    ],
)
def test_errors_have_types_that_anthropics_clients_know(status: Any, code: Any, given: Any, expected: str) -> None:
    assert error_type(status, code, given) == expected
