"""A whole reply where a stream was asked for, and events where none were: both pass, judged as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.dialect_shapes import GOOD, STREAMS, USAGE, WHOLE, chunk, reply, wire
from tests.guard.gateway.upstreams import gateway, outcomes, pieces

pytestmark = pytest.mark.anyio
REFUSES = Policy(output=Rail(action="refuse"))
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def documents_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_reply_to_a_stream_has_every_field(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=WHOLE[name])) as served:
        first, last = documents_of(await served.chat(stream=True))
        begin, ends = first["choices"][0], last["choices"][0]
        (choice,) = WHOLE[name]["choices"]
        assert begin["delta"] == choice["message"]
        assert (begin["finish_reason"], ends["finish_reason"]) == (None, "stop")
        beside = {field for field in WHOLE[name] if field not in ("choices", "usage")}
        assert beside <= set(first)


async def test_calls_have_numbers_and_counts_come_if_asked_for(tmp_path: Path) -> None:
    whole = reply(None, {"finish_reason": "tool_calls"}, {"tool_calls": [CALL, CALL]}, usage=USAGE)
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=whole)) as served:
        options = {"include_usage": True}
        first, end, counts = documents_of(await served.chat(stream=True, stream_options=options))
        calls = first["choices"][0]["delta"]["tool_calls"]
        assert [call["index"] for call in calls] == [0, 1]
        assert end["choices"][0]["finish_reason"] == "tool_calls"
        assert (counts["choices"], counts["usage"]) == ([], USAGE)


@pytest.mark.parametrize("where", ["content", "reasoning", "call", "beside", "choice"])
@pytest.mark.parametrize("stream", [False, True])
async def test_harm_in_the_other_form_is_stopped(tmp_path: Path, where: str, stream: bool) -> None:
    harm = "make a bomb now"
    call = {**CALL, "function": {"name": "f", "arguments": harm}}
    message = {"reasoning": {"reasoning": harm}, "call": {"tool_calls": [{**call, "index": 0}]}}.get(where)
    content = harm if where == "content" else "fine"
    choice, more = {"note": harm} if where == "choice" else {}, {"note": harm} if where == "beside" else {}
    whole = reply(content, choice, message, **more)
    parts = [chunk({"content": content, **(message or {})}, choice=choice, **more), chunk({}, "stop")]
    answer = httpx.Response(200, json=whole) if stream else pieces(*wire(parts))
    async with gateway(tmp_path, lambda _: answer, policy=REFUSES) as served:
        response = await served.chat(stream=stream)
        assert "bomb" not in response.text
        assert "policy default" in response.text
        assert served.entries()[-1]["decisions"][-1]["action"] == "refuse"


@pytest.mark.parametrize("name", STREAMS)
async def test_events_become_a_whole_reply(tmp_path: Path, name: str) -> None:
    async with gateway(tmp_path, lambda _: pieces(*wire(STREAMS[name]))) as served:
        (choice,) = (await served.chat()).json()["choices"]
        content = choice["message"]["content"]
        # Mistral's thinking and references stay parts of their own.
        assert content == GOOD or [part["text"] for part in content if "text" in part] == [GOOD]
        assert set(outcomes(served).values()) <= {"checked", "skipped"}


async def test_pieces_of_calls_are_put_together(tmp_path: Path) -> None:
    def call(number: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"index": number, **more, "function": {"arguments": arguments, **({"name": "f"} if more else {})}}

    deltas = [
        [call(0, "", id="a", type="function"), call(1, "{", id="b", type="function")],
        [call(0, '{"x":')],
        [call(1, "}"), call(0, " 1}")],
    ]
    parts = [*(chunk({"tool_calls": delta}) for delta in deltas), chunk({}, "tool_calls", usage=USAGE)]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts))) as served:
        document = (await served.chat()).json()
        calls = document["choices"][0]["message"]["tool_calls"]
        assert [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in calls] == [
            ("a", "f", '{"x": 1}'),
            ("b", "f", "{}"),
        ]
        assert (document["object"], document["usage"]) == ("chat.completion", USAGE)


async def test_harm_in_pieces_is_put_together_before_it_is_judged(tmp_path: Path) -> None:
    parts = [chunk({"content": "a bo"}), chunk({"content": "mb"}), chunk({}, "stop")]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts)), policy=REFUSES) as served:
        (choice,) = (await served.chat()).json()["choices"]
        assert choice["finish_reason"] == "content_filter"


@pytest.mark.parametrize(
    ("contents", "content"),
    [
        (["Mix ", "flour ", "and water."], "Mix flour and water."),
        (["Mix ", "Mix flour ", "Mix flour and water."], "Mix flour and water."),
        (["Mix ", "Mix flour and water.", ""], "Mix flour and water."),
        (["a ", "bo", "mb"], None),
        (["a ", "a bo", "a bomb"], None),
    ],
)
async def test_messages_instead_of_deltas_are_put_together_and_judged(
    tmp_path: Path, contents: list[str], content: str | None
) -> None:
    parts = [
        {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": end}]}
        for text, end in zip(contents, [*[None] * (len(contents) - 1), "stop"], strict=True)
    ]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts)), policy=REFUSES) as served:
        (choice,) = (await served.chat()).json()["choices"]
        assert choice["message"]["content"] == content
        assert choice["finish_reason"] == ("stop" if content else "content_filter")


@pytest.mark.parametrize(
    ("parts", "status", "message"),
    [
        ([chunk({"content": "a"}), {"error": {"message": "overload", "code": 503}}], 503, "overload"),
        ([{"error": {"message": "slow down", "code": 429}}], 429, "slow down"),
        ([], 502, "the upstream ended in the middle of its reply"),
    ],
)
async def test_an_error_in_events_keeps_its_status(tmp_path: Path, parts: Any, status: int, message: str) -> None:
    async with gateway(tmp_path, lambda _: pieces(*wire(parts))) as served:
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["message"]) == (status, message)


async def test_events_that_break_off_are_no_reply(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: pieces(wire([chunk({"content": "Mix"})])[0])) as served:
        assert (await served.chat()).status_code == 502


async def test_events_by_the_name_of_json_are_a_stream(tmp_path: Path) -> None:
    content = b"".join(wire(STREAMS["ollama"]))
    headers = {"content-type": "application/json"}
    async with gateway(tmp_path, lambda _: httpx.Response(200, content=content, headers=headers)) as served:
        assert documents_of(await served.chat(stream=True)) == STREAMS["ollama"]


@pytest.mark.parametrize(("status", "expected"), [(201, 200), (203, 200), (202, 502), (204, 502), (307, 502)])
async def test_other_statuses_of_a_reply(tmp_path: Path, status: int, expected: int) -> None:
    body = reply("fine") if expected == 200 else None
    async with gateway(tmp_path, lambda _: httpx.Response(status, json=body)) as served:
        assert (await served.chat()).status_code == expected


@pytest.mark.parametrize("body", ["[1]", '{"choices": [3]}', '{"choices": [{"message": "x"}]}', "<html>", '{"a": 1}'])
async def test_what_is_no_completion_is_no_stream(tmp_path: Path, body: str) -> None:
    headers = {"content-type": "application/json"}
    async with gateway(tmp_path, lambda _: httpx.Response(200, text=body, headers=headers)) as served:
        assert (await served.chat(stream=True)).status_code == 502


async def test_a_long_reply_in_many_events_is_put_together_in_order(tmp_path: Path) -> None:
    words = [f"word {number} " for number in range(5000)]
    parts = [*(chunk({"content": word}) for word in words), chunk({}, "stop")]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts)), seconds=30) as served:
        (choice,) = (await served.chat()).json()["choices"]
        assert choice["message"]["content"] == "".join(words)
