"""Other APIs over the chat call: translated in both directions, streamed and whole, judged as a chat is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import Gateway, delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
REFUSES = Policy(output=Rail(action="refuse"))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ROUTES = {"/v1/completions": {"prompt": "hi"}, "/v1/responses": {"input": "hi"}} | {
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answers(text: str, **more: Any) -> Any:
    def answer(body: dict[str, Any]) -> httpx.Response:
        finish = "tool_calls" if "tool_calls" in more else "stop"
        if not body.get("stream"):
            return whole({**message(text, **more), "finish_reason": finish}, usage=USAGE)
        usage = b'data: {"id": "c1", "choices": [], "usage": ' + json.dumps(USAGE).encode() + b"}\n\n"
        words = [delta(word) for word in text.split(" ")]
        ends = [delta(None, finish=finish, **more), usage, b"data: [DONE]\n\n"]
        return pieces(delta("", role="assistant"), *words, *ends)

    return answer


async def ask(served: Gateway, route: str, **more: Any) -> httpx.Response:
    return await served.client.post(route, json={"model": "m", **ROUTES[route], **more})


def sdk(served: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client, max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ROUTES)
async def test_harm_is_stopped_and_recorded_on_every_route(tmp_path: Path, route: str, stream: bool) -> None:
    async with gateway(tmp_path, answers("fine a bomb"), policy=REFUSES) as served:
        response = await ask(served, route, stream=stream)
        assert response.status_code == 200
        assert "bomb" not in response.text
        assert "policy default" in response.text
        entry = served.entries()[-1]
        assert (entry["route"], entry["decisions"][0]["action"]) == (route, "refuse")


@pytest.mark.parametrize("route", ROUTES)
async def test_the_upstream_gets_a_chat_request(tmp_path: Path, route: str) -> None:
    async with gateway(tmp_path, answers("fine")) as served:
        await ask(served, route, temperature=0.5)
        (body,) = served.fake.requests
        assert body["messages"] == [{"role": "user", "content": "hi"}]
        assert (body["temperature"], body["model"]) == (0.5, "m")


@pytest.mark.parametrize("route", ROUTES)
async def test_errors_have_the_form_of_their_api(tmp_path: Path, route: str) -> None:
    refused = httpx.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after": "3"})
    async with gateway(tmp_path, lambda _: refused) as served:
        response = await ask(served, route)
        assert (response.status_code, response.headers["retry-after"]) == (429, "3")
        assert response.json()["error"]["message"] == "slow down"
        assert (response.json().get("type") == "error") == (route == "/v1/messages")


@pytest.mark.parametrize("route", ROUTES)
async def test_an_error_within_a_stream_ends_it(tmp_path: Path, route: str) -> None:
    broken = [delta("fine"), b'data: {"error": {"message": "out of memory"}}\n\n']
    async with gateway(tmp_path, lambda _: pieces(*broken)) as served:
        text = (await ask(served, route, stream=True)).text
        assert "out of memory" in text
        assert "response.completed" not in text
        assert "message_stop" not in text


@pytest.mark.parametrize(
    ("route", "more"),
    [
        ("/v1/completions", {"prompt": [1, 2]}),
        ("/v1/completions", {"suffix": "end"}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/responses", {"background": True}),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "x"}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}),
    ],
)
async def test_what_a_chat_request_cannot_hold_is_refused(tmp_path: Path, route: str, more: dict[str, Any]) -> None:
    async with gateway(tmp_path, answers("fine")) as served:
        response = await ask(served, route, **more)
        assert response.status_code == 400
        assert not served.fake.requests


async def test_responses_with_the_official_client(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("fine and good")) as served:
        response = await sdk(served).responses.create(model="m", input="hi", instructions="Be brief.")
        assert (response.output_text, response.status) == ("fine and good", "completed")
        assert response.usage is not None
        assert response.usage.total_tokens == 5
        Response.model_validate(response.model_dump(), strict=False)
        assert served.fake.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
        async with sdk(served).responses.stream(model="m", input="hi") as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == "fineandgood"
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")


async def test_a_refusal_reaches_the_official_client_of_responses(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("a bomb"), policy=REFUSES) as served:
        whole_reply: Any = await sdk(served).responses.create(model="m", input="hi")
        async with sdk(served).responses.stream(model="m", input="hi") as stream:
            async for _ in stream:
                pass
            streamed: Any = await stream.get_final_response()
        for response in (whole_reply, streamed):
            assert response.status == "completed"
            assert "policy default" in response.output[-1].content[-1].refusal


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
async def test_a_reply_that_the_upstream_cut_is_incomplete(tmp_path: Path, finish: str, reason: str) -> None:
    async with gateway(tmp_path, lambda _: whole({**message("fine"), "finish_reason": finish})) as served:
        response = (await ask(served, "/v1/responses")).json()
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})


async def test_function_calls_in_responses(tmp_path: Path) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]
    history: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "id": "rs", "summary": []},
        {"type": "function_call", "call_id": "call_0", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_0", "output": "rain"},
    ]
    async with gateway(tmp_path, answers("", tool_calls=[{"index": 0, **CALL}])) as served:
        client = sdk(served)
        response = await client.responses.create(model="m", input=history, tools=tools)
        call: Any = response.output[-1]
        assert (call.type, call.call_id, call.arguments) == ("function_call", "call_1", '{"city": "Oslo"}')
        roles = [each_message["role"] for each_message in served.fake.requests[0]["messages"]]
        assert roles == ["user", "assistant", "tool"]
        assert served.fake.requests[0]["tools"][0]["function"]["name"] == "weather"
        async with client.responses.stream(model="m", input=history, tools=tools) as stream:
            async for _ in stream:
                pass
            final: Any = await stream.get_final_response()
        assert final.output[-1].arguments == '{"city": "Oslo"}'


async def test_legacy_completions_with_the_official_client(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("fine and good")) as served:
        client = sdk(served)
        completion = await client.completions.create(model="m", prompt="hi")
        assert (completion.choices[0].text, completion.object) == ("fine and good", "text_completion")
        chunks = await client.completions.create(model="m", prompt="hi", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in chunks if chunk.choices]) == "fineandgood"


async def test_messages_in_anthropics_form(tmp_path: Path) -> None:
    history = [
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t0", "name": "weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t0", "content": "rain"}]},
    ]
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    thoughts = {"reasoning_content": "Let me see.", "tool_calls": [{"index": 0, **CALL}]}
    async with gateway(tmp_path, answers("fine", **thoughts)) as served:
        more = {"messages": history, "tools": tools, "system": "Be brief.", "tool_choice": {"type": "any"}}
        reply = (await ask(served, "/v1/messages", **more)).json()
        assert [block["type"] for block in reply["content"]] == ["thinking", "text", "tool_use"]
        assert reply["content"][-1]["input"] == {"city": "Oslo"}
        assert (reply["stop_reason"], reply["usage"]) == ("tool_use", {"input_tokens": 3, "output_tokens": 2})
        body = served.fake.requests[0]
        assert [each_message["role"] for each_message in body["messages"]] == ["system", "user", "assistant", "tool"]
        assert (body["tool_choice"], body["max_tokens"]) == ("required", 9)


async def test_a_stream_of_messages_is_well_formed(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("fine and good", tool_calls=[{"index": 0, **CALL}])) as served:
        text = (await ask(served, "/v1/messages", stream=True)).text
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        kinds = [event["type"] for event in events]
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
        shown = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        assert shown == "fineandgood"
        assert events[-2]["usage"]["output_tokens"] == 2


async def test_only_listed_origins_may_call(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("fine")) as served:
        from equipoise.guard.gateway.app import create

        served.service.origins = ("https://chat.example.com",)
        transport = httpx.ASGITransport(app=create(served.service))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            asked_by = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
            allowed = {"origin": "https://chat.example.com", **asked_by}
            response = await client.options("/v1/chat/completions", headers=allowed)
            assert response.headers["access-control-allow-origin"] == "https://chat.example.com"
            other = await client.options("/v1/chat/completions", headers={**allowed, "origin": "https://evil.example"})
            assert "access-control-allow-origin" not in other.headers


async def test_log_probabilities_reach_the_official_client_of_responses(tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> httpx.Response:
        assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
        probabilities = [{"token": "fine", "logprob": -0.5, "bytes": None, "top_logprobs": []}]
        if not body.get("stream"):
            return whole({**message("fine"), "logprobs": {"content": probabilities, "refusal": None}})
        choice = {"index": 0, "delta": {"content": "fine"}, "logprobs": {"content": probabilities}}
        chunk = b"data: " + json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode() + b"\n\n"
        return pieces(chunk, chunk, delta(None, finish="stop"), b"data: [DONE]\n\n")

    async with gateway(tmp_path, answer) as served:
        reply: Any = await sdk(served).responses.create(model="m", input="hi", top_logprobs=2)
        assert [token.token for token in reply.output[0].content[0].logprobs] == ["fine"]
        async with sdk(served).responses.stream(model="m", input="hi", top_logprobs=2) as stream:
            deltas = [event async for event in stream if event.type == "response.output_text.delta"]
            final: Any = await stream.get_final_response()
        assert [len(event.logprobs) for event in deltas] == [1, 1]
        assert len(final.output[0].content[0].logprobs) == 2


async def test_settings_of_messages_become_those_of_a_chat(tmp_path: Path) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    async with gateway(tmp_path, answers("{}")) as served:
        config = {"format": form, "effort": "low"}
        edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
        for more in ({"output_config": config, "context_management": edits}, {"output_format": form}):
            assert (await ask(served, "/v1/messages", thinking={"type": "adaptive"}, **more)).status_code == 200
        sent = served.fake.requests
        assert [body["response_format"]["json_schema"]["schema"] for body in sent] == [{"type": "object"}] * 2
        assert sent[0]["reasoning_effort"] == "low"
        assert not {"output_config", "output_format", "context_management", "thinking"} & {*sent[0], *sent[1]}


async def test_azures_client_finds_its_route(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers("fine")) as served:
        client = openai.AsyncAzureOpenAI(
            azure_endpoint="http://gateway", api_key="k", api_version="2024-10-21", http_client=served.client
        )
        reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert reply.choices[0].message.content == "fine"
        assert "api-version" not in str(served.fake.requests)
