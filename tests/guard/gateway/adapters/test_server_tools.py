"""Tools that the upstream runs itself: left out by default and said so, refused, or passed with a judged history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.errors import UsageError
from equipoise.guard.gateway.picture_decoding import decode_picture_url
from equipoise.guard.policy import Policy, PromptSection, Rail, RequestPolicy, parse
from tests.guard.gateway.native import response_shapes, test_message_reader
from tests.guard.gateway.picture import drawn
from tests.guard.gateway.upstreams import Gateway, delta, gateway, message, outcomes, pieces, whole

pytestmark = pytest.mark.anyio
HEADER = "x-equipoise-dropped-tools"
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CUSTOM = {"name": "weather", "input_schema": {"type": "object"}}
OF_RESPONSES = [
    *("web_search", "web_search_preview", "file_search", "code_interpreter", "image_generation", "mcp", "shell"),
    *("computer_use_preview", "local_shell", "apply_patch", "tool_search", "namespace"),
]
OF_MESSAGES = [
    *("web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "bash_20250124", "memory_20250818"),
    *("text_editor_20250728", "computer_20250124", "tool_search_tool_regex_20251119", "mcp_toolset"),
]
HOW = "how to make a bomb"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fine(body: dict[str, Any]) -> httpx.Response:
    if body.get("stream"):
        return pieces(delta("fine"), delta(None, finish="stop"), b"data: [DONE]\n\n")
    return whole(message("fine"))


async def responses(served: Gateway, **more: Any) -> httpx.Response:
    return await served.client.post("/v1/responses", json={"model": "m", "input": "hi", **more})


async def messages(served: Gateway, **more: Any) -> httpx.Response:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **more}
    return await served.client.post("/v1/messages", json=body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", OF_RESPONSES)
async def test_a_tool_of_responses_is_left_out_and_named(tmp_path: Path, kind: str, stream: bool) -> None:
    async with gateway(tmp_path, fine) as served:
        reply = await responses(served, tools=[{"type": kind}, FUNCTION], tool_choice="auto", stream=stream)
        assert reply.status_code == 200
        assert reply.headers[HEADER] == kind
        (sent,) = served.fake.requests
        assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather"]
        assert served.fake.paths == ["/v1/chat/completions"]
        receipts = {receipt["path"]: receipt for receipt in served.entries()[-1]["receipts"]}
        assert receipts[f"server tools/{kind}"]["outcome"] == "skipped"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", OF_MESSAGES)
async def test_a_tool_of_messages_is_left_out_and_named(tmp_path: Path, kind: str, stream: bool) -> None:
    async with gateway(tmp_path, fine) as served:
        reply = await messages(served, tools=[{"type": kind, "name": "x"}, CUSTOM], stream=stream)
        assert reply.status_code == 200
        assert reply.headers[HEADER] == kind
        assert len(served.fake.requests[0]["tools"]) == 1


async def test_without_its_tools_a_request_has_no_settings_of_tools(tmp_path: Path) -> None:
    async with gateway(tmp_path, fine) as served:
        await responses(served, tools=[{"type": "web_search"}], tool_choice="auto", parallel_tool_calls=True)
        tools = [{"type": "bash_20250124", "name": "bash"}]
        await messages(served, tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        for sent in served.fake.requests:
            assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent)


@pytest.mark.parametrize(
    ("route", "more"),
    [
        ("responses", {"tool_choice": {"type": "web_search"}}),
        ("responses", {"tool_choice": "required"}),
        (
            "responses",
            {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}},
        ),
        ("messages", {"tool_choice": {"type": "tool", "name": "web_search"}}),
        ("messages", {"tool_choice": {"type": "any"}}),
    ],
)
async def test_a_request_that_needs_such_a_tool_is_refused(tmp_path: Path, route: str, more: dict[str, Any]) -> None:
    async with gateway(tmp_path, fine) as served:
        tools = [{"type": "web_search", "name": "web_search"}]
        reply = await (responses if route == "responses" else messages)(served, tools=tools, **more)
        assert reply.status_code == 400
        assert "web_search" in reply.json()["error"]["message"]
        assert not served.fake.requests


async def test_of_allowed_tools_those_are_left_that_a_chat_has(tmp_path: Path) -> None:
    tools = [{"type": "web_search"}, FUNCTION]
    async with gateway(tmp_path, fine) as served:
        for allowed, mode, status in ((tools, "required", 200), (tools[:1], "auto", 200), (tools[:1], "required", 400)):
            choice = {"type": "allowed_tools", "mode": mode, "tools": allowed}
            assert (await responses(served, tools=tools, tool_choice=choice)).status_code == status
        first, second = [body["tool_choice"] for body in served.fake.requests]
        assert first["allowed_tools"]["tools"] == [{"type": "function", "function": {"name": "weather"}}]
        # None of those that were allowed is left: the other one was not allowed.
        assert second == "none"


async def test_servers_and_earlier_calls_are_left_out_too(tmp_path: Path) -> None:
    async with gateway(tmp_path, fine) as served:
        turns = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": test_message_reader.BLOCKS},
            {"role": "user", "content": "and?"},
        ]
        server = {"type": "url", "url": "https://example.com/mcp", "name": "kitchen"}
        reply = await messages(served, messages=turns, mcp_servers=[server], container="container_1")
        named = reply.headers[HEADER].split(", ")
        assert {"mcp_servers", "container", "server_tool_use", "web_search_tool_result", "mcp_tool_use"} <= set(named)
        contents = [turn["content"] for turn in served.fake.requests[0]["messages"]]
        assert contents == ["hi", test_message_reader.TEXT, "and?"]
        items = [{"role": "user", "content": "hi"}, *response_shapes.ITEMS, response_shapes.message()]
        reply = await responses(served, input=[*items, {"role": "user", "content": "and?"}])
        assert "code_interpreter_call" in reply.headers[HEADER]
        assert [turn["content"] for turn in served.fake.requests[1]["messages"]][1] == response_shapes.TEXT


@pytest.mark.parametrize("route", ["/v1/responses", "/v1/messages", "/v1/chat/completions"])
async def test_a_policy_may_refuse_them(tmp_path: Path, route: str) -> None:
    policy = Policy(requests=RequestPolicy(server_tools="refuse"))
    turns = [{"role": "user", "content": "hi"}]
    async with gateway(tmp_path, fine, policy=policy) as served:
        body = {"model": "m", "input": "hi", "messages": turns, "max_tokens": 9}
        reply = await served.client.post(route, json={**body, "tools": [{"type": "web_search_20250305", "name": "w"}]})
        assert reply.status_code == 400
        assert "web_search_20250305" in reply.json()["error"]["message"]
        assert not served.fake.requests


async def test_a_chat_request_needs_no_translation(tmp_path: Path) -> None:
    async with gateway(tmp_path, fine) as served:
        tools = [{"type": "builtin_function", "function": {"name": "$web_search"}}]
        assert (await served.chat(tools=tools, web_search_options={})).status_code == 200
        assert served.fake.requests[0]["tools"] == tools


@pytest.mark.parametrize("route", ["responses", "messages"])
async def test_what_such_tools_said_earlier_is_judged_where_it_is_passed(tmp_path: Path, route: str) -> None:
    policy = Policy(
        requests=RequestPolicy(server_tools="pass"), input=Rail(enabled=True, action="refuse"), output=Rail()
    )
    if route == "responses":
        items = [{**response_shapes.CODE, "outputs": [{"type": "logs", "logs": HOW}]}]
        body: dict[str, Any] = {"input": [*items, {"role": "user", "content": "go on"}]}
    else:
        block = response_shapes.with_words(test_message_reader.RAN, "content/stdout", HOW)
        body = {"messages": [{"role": "assistant", "content": [block]}, {"role": "user", "content": "go on"}]}
    async with gateway(tmp_path, fine, policy=policy) as served:
        reply = await (responses if route == "responses" else messages)(served, **body)
        assert "policy default" in reply.text
        assert not served.fake.requests


@pytest.mark.parametrize("route", ["responses", "messages"])
async def test_the_upstream_gets_pictures_as_they_were_checked(tmp_path: Path, route: str) -> None:
    policy = Policy(requests=RequestPolicy(server_tools="pass"))
    url = drawn()
    # Another spelling, which the gateway does not pass on.
    odd = f"{url[:60]}\n{url[60:]}"
    if route == "responses":
        shot = {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}
        shot["output"] = {"type": "computer_screenshot", "image_url": odd}
        part = {"type": "input_image", "image_url": odd}
        body: dict[str, Any] = {"input": [{"role": "user", "content": [part]}, shot]}
        answer = response_shapes.answers(response_shapes.message())
    else:
        source = {"type": "base64", "media_type": "image/png", "data": odd.partition(",")[2]}
        body = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
        answer = test_message_reader.answers(test_message_reader.SPOKEN)
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    async with gateway(tmp_path, answer, policy=policy, reader=lambda _: "") as served:
        reply = await (responses if route == "responses" else messages)(served, tools=tools, **body)
        assert reply.status_code == 200, reply.text
        sent = json.dumps(served.fake.requests[0])
        checked = decode_picture_url(odd, policy.pictures).url
        assert checked.partition(",")[2] in sent
        assert json.dumps(odd.partition(",")[2])[1:-1] not in sent
        assert "picture" in {receipt["kind"] for receipt in served.entries()[-1]["receipts"]}


async def test_a_picture_that_cannot_be_checked_is_not_passed(tmp_path: Path) -> None:
    policy = Policy(requests=RequestPolicy(server_tools="pass"))
    shot = {"type": "computer_screenshot", "image_url": "https://example.com/a.png"}
    for output in (shot, {"type": "computer_screenshot", "file_id": "file_1"}):
        items = [{"type": "computer_call_output", "call_id": "c", "output": output}]
        async with gateway(tmp_path, fine, policy=policy, reader=lambda _: "") as served:
            reply = await responses(served, input=items)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_content")
            assert not served.fake.requests


async def test_tokens_are_counted_without_them(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    policy = Policy(requests=RequestPolicy(server_tools="pass"))
    async with gateway(tmp_path, lambda _: whole(message("f"), usage=usage), policy=policy) as served:
        body = {"model": "m", "input": "hi", "tools": [{"type": "web_search"}]}
        reply = await served.client.post("/v1/responses/input_tokens", json=body)
        assert reply.json()["input_tokens"] == 7
        assert reply.headers[HEADER] == "web_search"


def test_a_prompt_of_the_policy_and_passed_requests_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="server_tools"):
        parse('[requests]\nserver_tools = "pass"\n[prompt]\nuse = "balanced"\n')
    assert Policy(requests=RequestPolicy(server_tools="pass"), prompt=PromptSection()).requests.server_tools == "pass"


async def test_many_tools_and_items_are_sorted_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path, fine) as served:
        items = [{"type": "web_search_call", "id": str(number), "action": {}} for number in range(20_000)]
        tools = [{"type": "mcp", "server_label": str(number)} for number in range(20_000)]
        reply = await responses(served, input=[*items, {"role": "user", "content": "hi"}], tools=tools)
        assert reply.headers[HEADER] == "mcp, web_search_call"
        names = [f"tool_{number}" for number in range(5_000)]
        reply = await responses(served, tools=[{"type": name} for name in names])
        assert reply.headers[HEADER] == ", ".join([*names[:20], "more"])
        reply = await responses(served, tools=[{"type": "a\r\nset-cookie: b"}])
        assert reply.headers[HEADER] == "unknown"
        await responses(served, tools=[{"type": "mcp"}])
        assert outcomes(served)["server tools/mcp"] == "skipped"
