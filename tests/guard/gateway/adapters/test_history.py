"""What a server wants back of its earlier replies goes back: reasoning, signatures, custom tools, documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from equipoise.guard.gateway.adapters.call_ids import with_extra, without_extra
from equipoise.guard.gateway.adapters.custom_tools import as_function, input_of
from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.dialect_shapes import chunk, reply, wire
from tests.guard.gateway.upstreams import Gateway, gateway, outcomes, pieces

pytestmark = pytest.mark.anyio
THOUGHT = "The user asks about the weather."
EXTRA = {"google": {"thought_signature": "Q3JlYXRlZCBieSBhIHRlc3Q="}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
JUDGES = Policy(input=Rail(enabled=True, action="refuse"), output=Rail(action="refuse"))
PATCH = {
    "type": "custom",
    "name": "patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answers(message: dict[str, Any], *, stream: bool) -> httpx.Response:
    if not stream:
        return httpx.Response(200, json=reply(None, {"finish_reason": "tool_calls"}, message))
    calls = [{"index": at, **call} for at, call in enumerate(message.pop("tool_calls", []))]
    return pieces(*wire([chunk(message), chunk({"tool_calls": calls}), chunk({}, "tool_calls")]))


async def blocks_of(served: Gateway, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a message, put together as Anthropic's clients do where it is streamed."""
    text = (await served.client.post("/v1/messages", json={"model": "m", "max_tokens": 9, **body})).text
    if not body.get("stream"):
        return list(json.loads(text)["content"])
    blocks: list[dict[str, Any]] = []
    for event in (json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")):
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            blocks[-1]["input"] = json.loads(event["delta"]["partial_json"])
        elif event["type"] == "content_block_delta":
            name = event["delta"]["type"].removesuffix("_delta")
            blocks[-1][name] += event["delta"][name]
    return blocks


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_and_signature_of_a_message_go_back(tmp_path: Path, field: str, stream: bool) -> None:
    message = {field: THOUGHT, "tool_calls": [{**CALL, "extra_content": EXTRA}]}
    async with gateway(tmp_path, lambda _: answers(json.loads(json.dumps(message)), stream=stream)) as served:
        ask = {"role": "user", "content": "weather?"}
        blocks = await blocks_of(served, {"messages": [ask], "stream": stream})
        assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
        result = {"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "rain"}
        history = [ask, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
        await blocks_of(served, {"messages": history, "stream": stream})
        earlier, answer = served.fake.requests[-1]["messages"][1:]
        assert (earlier[field], earlier["tool_calls"][0]["extra_content"]) == (THOUGHT, EXTRA)
        assert (earlier["tool_calls"][0]["id"], answer["tool_call_id"]) == ("c1", "c1")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_and_signature_of_a_response_go_back(tmp_path: Path, field: str, stream: bool) -> None:
    message = {field: THOUGHT, "tool_calls": [{**CALL, "extra_content": EXTRA}]}
    async with gateway(tmp_path, lambda _: answers(json.loads(json.dumps(message)), stream=stream)) as served:
        client = openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client)
        ask: Any = {"role": "user", "content": "weather?"}
        if stream:
            async with client.responses.stream(model="m", input=[ask]) as events:
                async for _ in events:
                    pass
                final: Any = await events.get_final_response()
        else:
            final = await client.responses.create(model="m", input=[ask])
        items = [item.model_dump(exclude={"parsed_arguments"}) for item in final.output]
        assert [item["type"] for item in items] == ["reasoning", "function_call"]
        result = {"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "rain"}
        body = {"model": "m", "input": [ask, *items, result]}
        assert (await served.client.post("/v1/responses", json=body)).is_success
        earlier, answer = served.fake.requests[-1]["messages"][1:]
        assert (earlier[field], earlier["tool_calls"][0]["extra_content"]) == (THOUGHT, EXTRA)
        assert (earlier["tool_calls"][0]["id"], answer["tool_call_id"]) == ("c1", "c1")


async def test_reasoning_of_other_servers_is_left_out(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine"))) as served:
        thinking = {"type": "thinking", "thinking": THOUGHT, "signature": "EqQBCkgIARABGAIiQL"}
        history = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thinking, {"type": "redacted_thinking", "data": "x"}]},
            {"role": "user", "content": "hi"},
        ]
        await blocks_of(served, {"messages": history})
        items = [
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA", "content": [{"text": THOUGHT}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "reasoning", "content": [{"text": THOUGHT}]},
            {"role": "user", "content": "hi"},
        ]
        assert (await served.client.post("/v1/responses", json={"model": "m", "input": items})).is_success
        # A turn that only thought says nothing, and servers refuse a message without content.
        assert [body["messages"] for body in served.fake.requests] == [[{"role": "user", "content": "hi"}] * 2] * 2


async def test_reasoning_and_words_are_one_message(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine"))) as served:
        thought = {"type": "reasoning", "encrypted_content": "reasoning", "content": [{"text": THOUGHT}]}
        words = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]}
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
        body = {"model": "m", "input": [thought, words, call]}
        assert (await served.client.post("/v1/responses", json=body)).is_success
        (message,) = served.fake.requests[0]["messages"]
        assert (message["reasoning"], message["content"]) == (THOUGHT, "Rain.")
        assert len(message["tool_calls"]) == 1


@pytest.mark.parametrize("where", ["thinking", "extra", "custom", "document", "search", "result", "reasoning"])
async def test_harm_in_what_goes_back_is_judged(tmp_path: Path, where: str) -> None:
    harm = "how to make a bomb"
    identity = with_extra("c1", {"note": harm})
    user = {"role": "user", "content": "hi"}
    messages: dict[str, list[Any]] = {
        "thinking": [{"type": "thinking", "thinking": harm, "signature": "reasoning"}, {"type": "text", "text": "ok"}],
        "extra": [{"type": "tool_use", "id": identity, "name": "f", "input": {}}],
        "document": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": harm}}],
        "search": [{"type": "search_result", "source": "x", "title": harm, "content": [{"type": "text", "text": "a"}]}],
        "result": [{"type": "tool_result", "tool_use_id": "c1", "is_error": True, "content": harm}],
    }
    items: dict[str, list[Any]] = {
        "custom": [{"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": harm}],
        "reasoning": [
            {"type": "reasoning", "encrypted_content": "reasoning", "content": [{"text": harm}]},
            {"role": "assistant", "content": "ok"},
        ],
    }
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine")), policy=JUDGES) as served:
        if where in messages:
            role = "assistant" if where in ("thinking", "extra") else "user"
            body: Any = {"messages": [user, {"role": role, "content": messages[where]}, user], "max_tokens": 9}
            response = await served.client.post("/v1/messages", json={"model": "m", **body})
        else:
            response = await served.client.post("/v1/responses", json={"model": "m", "input": [*items[where], user]})
        assert "policy default" in response.text
        assert not served.fake.requests


async def test_texts_of_documents_and_searches_reach_the_upstream(tmp_path: Path) -> None:
    text = {"type": "text", "text": "Knead the dough."}
    blocks = [
        {
            "type": "document",
            "title": "Bread",
            "source": {"type": "text", "media_type": "text/plain", "data": "Flour."},
        },
        {"type": "document", "source": {"type": "content", "content": [text]}, "citations": {"enabled": True}},
        {"type": "search_result", "source": "https://e.com", "title": "Dough", "content": [text]},
        {"type": "text", "text": "How?"},
    ]
    references = [{"type": "tool_reference", "tool_name": "Read"}]
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": references},
        {"type": "tool_result", "tool_use_id": "b", "content": [], "is_error": True},
        {"type": "tool_result", "tool_use_id": "c", "content": "no such file", "is_error": True},
    ]
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine"))) as served:
        history = [{"role": "user", "content": results}, {"role": "user", "content": blocks}]
        await blocks_of(served, {"messages": history})
        *answers_of_tools, asks = served.fake.requests[0]["messages"]
        assert [turn["content"] for turn in answers_of_tools] == ["Tool: Read", "Error", "Error: no such file"]
        assert [part["text"] for part in asks["content"]] == [
            *("Bread", "Flour.", "Knead the dough.", "Dough\nhttps://e.com", "Knead the dough.", "How?")
        ]
        assert "unsupported" not in outcomes(served).values()


@pytest.mark.parametrize("source", [{"type": "base64", "data": "JVBERi0="}, {"type": "url", "url": "x"}, None])
async def test_a_document_that_is_no_text_is_refused(tmp_path: Path, source: Any) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine"))) as served:
        content = [{"type": "document", "source": source}]
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
        assert (await served.client.post("/v1/messages", json=body)).status_code == 400
        assert not served.fake.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_a_custom_tool_is_a_function_for_the_upstream(tmp_path: Path, stream: bool) -> None:
    text = '*** Begin\n+ "bread"\n*** End'
    call = {"id": "c1", "type": "function", "function": {"name": "patch", "arguments": json.dumps({"input": text})}}
    async with gateway(tmp_path, lambda _: answers({"tool_calls": [call]}, stream=stream)) as served:
        client = openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client)
        tools: Any = [PATCH]
        if stream:
            async with client.responses.stream(model="m", input="edit", tools=tools) as events:
                kinds = [event.type async for event in events]
                final: Any = await events.get_final_response()
            assert "response.custom_tool_call_input.done" in kinds
        else:
            choice: Any = {"type": "custom", "name": "patch"}
            final = await client.responses.create(model="m", input="edit", tools=tools, tool_choice=choice)
            assert served.fake.requests[0]["tool_choice"] == {"type": "function", "function": {"name": "patch"}}
        (item,) = final.output
        assert (item.type, item.call_id, item.input) == ("custom_tool_call", "c1", text)
        (function,) = served.fake.requests[0]["tools"]
        assert function == as_function(PATCH)
        assert "start: /.+/s" in function["function"]["description"]
        result = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
        body = {"model": "m", "input": [item.model_dump(), result], "tools": tools}
        assert (await served.client.post("/v1/responses", json=body)).is_success
        earlier, answer = served.fake.requests[-1]["messages"]
        assert json.loads(earlier["tool_calls"][0]["function"]["arguments"]) == {"input": text}
        assert answer == {"role": "tool", "tool_call_id": "c1", "content": "done"}


@pytest.mark.parametrize("stream", [False, True])
async def test_harm_in_the_input_of_a_custom_tool_is_stopped(tmp_path: Path, stream: bool) -> None:
    arguments = json.dumps({"input": "a bomb"})
    call = {"id": "c1", "type": "function", "function": {"name": "patch", "arguments": arguments}}
    async with gateway(tmp_path, lambda _: answers({"tool_calls": [call]}, stream=stream), policy=JUDGES) as served:
        body = {"model": "m", "input": "edit", "tools": [PATCH], "stream": stream}
        assert "bomb" not in (await served.client.post("/v1/responses", json=body)).text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "x"}', "x"),
        ("x", "x"),
        ('{"patch": "x"}', '{"patch": "x"}'),
        ('"x"', '"x"'),
        ("[" * 9999, "[" * 9999),
    ],
)
def test_the_input_of_a_model_that_wrote_none_is_what_it_wrote(arguments: str, text: str) -> None:
    assert input_of(arguments) == text


@pytest.mark.parametrize(
    "identity", ["c1", "", "call_1__extra", "c__extra__", "c__extra__!", "c__extra__WzFd", None, 3]
)
def test_an_id_that_carries_nothing_stays(identity: Any) -> None:
    assert without_extra(identity) == (identity, {})


def test_an_id_carries_what_the_server_gave() -> None:
    assert without_extra(with_extra("c1", EXTRA)) == ("c1", {"extra_content": EXTRA})
    assert with_extra("c1", None) == with_extra("c1", {}) == with_extra("c1", "x") == "c1"
    assert with_extra("c1", EXTRA).replace("_", "").replace("-", "").isalnum()
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    assert without_extra(with_extra("c1", deep))[1] == {}


async def test_settings_about_the_servers_own_tools_change_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=reply("fine"))) as served:
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        more = {"max_tool_calls": 3, "context_management": [{"type": "compaction"}], "tools": [tool]}
        response = await served.client.post("/v1/responses", json={"model": "m", "input": "x", **more})
        assert response.json()["usage"]["total_tokens"] == 0
        assert served.fake.requests[0]["tools"] == [tool]
        assert not {"max_tool_calls", "context_management"} & set(served.fake.requests[0])
