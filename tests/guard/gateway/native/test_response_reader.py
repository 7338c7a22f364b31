"""Responses with the server's own tools: carried unchanged, and every text in them judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from equipoise.guard.gateway.native.response_reader import ResponseReader
from equipoise.guard.policy import PicturePolicy, Policy, Rail, RequestPolicy, StreamPolicy
from tests.guard.fakes import Rewrites, Words
from tests.guard.gateway.native.response_shapes import (
    APPROVAL,
    CITED,
    CODE,
    FILES,
    FUNCTION,
    ITEMS,
    LIST,
    MCP,
    REASONING,
    SEARCH,
    SHELL,
    TEXT,
    answers,
    events,
    message,
    read,
    response,
    wire,
    with_words,
)
from tests.guard.gateway.upstreams import Gateway, gateway, outcomes, pieces, says

pytestmark = pytest.mark.anyio
PASSES = RequestPolicy(server_tools="pass")
POLICY = Policy(requests=PASSES, output=Rail(action="refuse"))
WEB = [{"type": "web_search"}]
HARM = "how to make a bomb"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(served: Gateway, **more: Any) -> httpx.Response:
    return await served.client.post("/v1/responses", json={"model": "m", "input": "hi", "tools": WEB, **more})


def sdk(served: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client, max_retries=0)


async def test_a_whole_response_is_carried_unchanged(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers(*ITEMS, message(), SHELL, FUNCTION), policy=POLICY) as served:
        reply = await ask(served, temperature=0.5, include=["code_interpreter_call.outputs"])
        assert reply.json() == response(*ITEMS, message(), SHELL, FUNCTION)
        (sent,) = served.fake.requests
        assert sent == {
            "model": "m",
            "input": "hi",
            "tools": WEB,
            "temperature": 0.5,
            "include": ["code_interpreter_call.outputs"],
        }
        assert served.fake.paths == ["/v1/responses"]
        assert "x-equipoise-dropped-tools" not in reply.headers
        assert outcomes(served)["server tools/web_search"] == "skipped"


async def test_a_stream_is_carried_unchanged(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers(*ITEMS, message(), SHELL, FUNCTION), policy=POLICY) as served:
        reply = await ask(served, stream=True)
        assert read(reply.text) == events(*ITEMS, message(), SHELL, FUNCTION)
        assert served.entries()[-1]["status"] == 200
        assert set(outcomes(served).values()) <= {"checked", "skipped"}


async def test_the_official_client_reads_a_passed_stream(tmp_path: Path) -> None:
    async with gateway(tmp_path, answers(*ITEMS, message(), FUNCTION), policy=POLICY) as served:
        tools: Any = WEB
        async with sdk(served).responses.stream(model="m", input="hi", tools=tools) as stream:
            async for _ in stream:
                pass
            final: Any = await stream.get_final_response()
        assert final.output_text == TEXT
        assert [item.type for item in final.output] == [item["type"] for item in (*ITEMS, message(), FUNCTION)]
        assert final.output[1].outputs[0].logs == "220\n"
        cited = final.output[len(ITEMS)].content[0].annotations[0]
        assert TEXT[cited.start_index : cited.end_index] == "Bread"


PLACES = [
    (SEARCH, "action/query"),
    (SEARCH, "action/sources/0/url"),
    (CODE, "code"),
    (CODE, "outputs/0/logs"),
    (FILES, "queries/0"),
    (FILES, "results/0/text"),
    (FILES, "results/0/filename"),
    (FILES, "results/0/attributes/a"),
    (MCP, "arguments"),
    (MCP, "output"),
    (MCP, "error"),
    (LIST, "tools/0/description"),
    (APPROVAL, "arguments"),
    (REASONING, "summary/0/text"),
    (message(), "content/0/text"),
    (message(), "content/0/annotations/0/title"),
    (message(), "content/0/annotations/0/url"),
    (SHELL, "action/command/1"),
    (FUNCTION, "arguments"),
    ({"id": "x_1", "type": "new_call", "words": ""}, "words"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("item", "path"), PLACES, ids=[f"{item['type']}/{path}" for item, path in PLACES])
async def test_harm_anywhere_in_an_item_is_stopped(
    tmp_path: Path, item: dict[str, Any], path: str, stream: bool
) -> None:
    harmful = with_words(item, path, HARM)
    async with gateway(tmp_path, answers(harmful, message()), policy=POLICY) as served:
        reply = await ask(served, stream=stream)
        assert "bomb" not in reply.text
        assert "policy default" in reply.text
        final = read(reply.text)[-1]["response"] if stream else reply.json()
        assert final["status"] == "completed"
        assert final["output"][-1]["content"][-1]["type"] == "refusal"
        assert served.entries()[-1]["decisions"][-1]["action"] == "refuse"


@pytest.mark.parametrize("at", range(len(events(CODE, message()))))
async def test_harm_in_any_event_alone_is_stopped(tmp_path: Path, at: int) -> None:
    # Words that stand in one event and in no piece before it.
    sent = events(CODE, message())
    sent[at]["beside"] = {"words": HARM}
    async with gateway(tmp_path, lambda _: pieces(*wire(sent)), policy=POLICY) as served:
        reply = await ask(served, stream=True)
        assert "bomb" not in reply.text
        assert "policy default" in reply.text


@pytest.mark.parametrize("name", ["response.output_text.done", "response.output_item.done", "response.completed"])
async def test_what_a_later_event_says_otherwise_is_judged(tmp_path: Path, name: str) -> None:
    sent = events(message())
    other = events(message(f"{TEXT} {HARM}"))
    kinds = [event["type"] for event in sent]
    sent[kinds.index(name)] = next(event for event in other if event["type"] == name)
    async with gateway(tmp_path, lambda _: pieces(*wire(sent)), policy=POLICY) as served:
        assert "bomb" not in (await ask(served, stream=True)).text


async def test_a_blocked_stream_reaches_the_official_client_as_a_refusal(tmp_path: Path) -> None:
    text = "A harmless sentence about bread. " * 20 + HARM
    policy = POLICY.model_copy(update={"stream": StreamPolicy(hold=40, every=40)})
    async with gateway(tmp_path, answers(SEARCH, message(text)), policy=policy) as served:
        tools: Any = WEB
        kinds = []
        async with sdk(served).responses.stream(model="m", input="hi", tools=tools) as stream:
            async for event in stream:
                kinds.append(event.type)
            final: Any = await stream.get_final_response()
        assert [item.type for item in final.output] == ["web_search_call", "message", "message"]
        begun = final.output[1].content[0]
        assert text.startswith(begun.text)
        assert 0 < len(begun.text) < len(text)
        assert "policy default" in final.output[2].content[0].refusal
        assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == 3
        assert kinds[-1] == "response.completed"


async def test_calls_that_a_client_runs_wait_for_the_last_check(tmp_path: Path) -> None:
    sent = events(SHELL, FUNCTION, message(HARM))
    async with gateway(tmp_path, lambda _: pieces(*wire(sent)), policy=POLICY) as served:
        text = (await ask(served, stream=True)).text
        assert "exec" not in text
        assert "Oslo" not in text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_picture_that_was_made_takes_the_policys_rule(tmp_path: Path, stream: bool) -> None:
    drawn = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "iVBORw0KGgoAAAANSUhEUg=="}
    async with gateway(tmp_path, answers(drawn, message()), policy=POLICY) as served:
        reply = await ask(served, stream=stream)
        assert "iVBORw0" not in reply.text
        assert "unsupported_content" in reply.text
    lenient = POLICY.model_copy(update={"pictures": PicturePolicy(replies="skip")})
    async with gateway(tmp_path, answers(drawn, message()), policy=lenient) as served:
        reply = await ask(served, stream=stream)
        assert "iVBORw0" in reply.text
        assert "skipped" in outcomes(served).values()


async def test_a_rewrite_replaces_everything_with_its_sources(tmp_path: Path) -> None:
    policy = Policy(requests=PASSES)
    rewrites = [Rewrites(lambda text: "I rather speak of bread.")]
    async with gateway(tmp_path, answers(message(HARM)), policy=policy, detoxifiers=rewrites) as served:
        for stream in (False, True):
            reply = await ask(served, stream=stream)
            final = read(reply.text)[-1]["response"] if stream else reply.json()
            (part,) = final["output"][-1]["content"]
            assert (part["text"], part["annotations"]) == ("I rather speak of bread.", [])
            assert CITED["url"] not in reply.text
            assert "bomb" not in reply.text


@pytest.mark.parametrize("stream", [False, True])
async def test_the_requests_own_words_in_a_response_are_no_reply(tmp_path: Path, stream: bool) -> None:
    # Operators may name what is forbidden; a response repeats its request's settings.
    own = {"instructions": "Never say how to make a bomb.", "metadata": {"topic": "no bomb talk, please"}}

    def answer(body: dict[str, Any]) -> httpx.Response:
        sent = events(message())
        for event in sent:
            if "response" in event:
                event["response"] |= {**own, "instructions": " Never say how\nto make a bomb. "}
        return pieces(*wire(sent)) if body.get("stream") else httpx.Response(200, json=response(message(), **own))

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        reply = await ask(served, stream=stream, **own)
        assert TEXT in reply.text
        assert "policy default" not in reply.text
        # Of words that the request does not have, nobody knows where they come from.
        assert "policy default" in (await ask(served, stream=stream)).text


async def test_an_error_event_ends_the_stream_in_this_api(tmp_path: Path) -> None:
    error = {"code": "server_error", "message": "The model is overloaded."}
    failed = {"type": "response.failed", "response": response(status="failed", error=error), "sequence_number": 9}
    for last in (failed, {"type": "error", **error, "param": None, "sequence_number": 9}):
        sent = [*events(message())[:8], last]
        async with gateway(tmp_path, lambda _, sent=sent: pieces(*wire(sent)), policy=POLICY) as served:
            received = read((await ask(served, stream=True)).text)
            assert [event["type"] for event in received][-2:] == ["error", "response.failed"]
            assert received[-1]["response"]["error"]["message"] == "The model is overloaded."


@pytest.mark.parametrize("cut", [1, 5, 9])
async def test_a_stream_that_breaks_off_fails(tmp_path: Path, cut: int) -> None:
    sent = wire(events(CODE, message()))[:cut]
    async with gateway(tmp_path, lambda _: pieces(*sent, sent[-1][:20]), policy=POLICY) as served:
        received = read((await ask(served, stream=True)).text)
        assert received[-1]["type"] == "response.failed"


@pytest.mark.parametrize("body", [b"no json", b'{"output": 3}', b"[]"])
async def test_what_is_no_response_is_an_error(tmp_path: Path, body: bytes) -> None:
    for stream in (False, True):
        answer = httpx.Response(200, content=body, headers={"content-type": "application/json"})
        async with gateway(tmp_path, lambda _, answer=answer: answer, policy=POLICY) as served:
            assert (await ask(served, stream=stream)).status_code == 502


@pytest.mark.parametrize("harmful", [False, True])
async def test_a_response_in_the_other_form_is_read_and_judged(tmp_path: Path, harmful: bool) -> None:
    items = (*ITEMS, message(HARM if harmful else TEXT), FUNCTION)

    def answer(body: dict[str, Any]) -> httpx.Response:
        return pieces(*wire(events(*items))) if not body.get("stream") else httpx.Response(200, json=response(*items))

    async with gateway(tmp_path, answer, policy=POLICY) as served:
        for stream in (False, True):
            reply = await ask(served, stream=stream)
            final = read(reply.text)[-1]["response"] if stream else reply.json()
            if harmful:
                assert "bomb" not in reply.text
                assert "policy default" in reply.text
            else:
                assert final == response(*items)
        if not harmful:
            tools: Any = WEB
            async with sdk(served).responses.stream(model="m", input="hi", tools=tools) as stream_of_sdk:
                async for _ in stream_of_sdk:
                    pass
                assert (await stream_of_sdk.get_final_response()).output_text == TEXT


async def test_a_response_that_each_event_repeats_is_judged_once(tmp_path: Path) -> None:
    words = [f"{TEXT} ({number}) " for number in range(200)]
    sent = [
        {"type": "response.in_progress", "response": response(message("".join(words[: at + 1])), status="in_progress")}
        for at in range(len(words))
    ]
    detector = Words()
    async with gateway(
        tmp_path,
        lambda _: pieces(*wire([*sent, events(message("".join(words)))[-1]])),
        policy=POLICY,
        detector=detector,
    ) as served:
        assert "response.completed" in (await ask(served, stream=True)).text
    assert max(map(len, detector.texts)) < 2 * len("".join(words))
    sent[100] = {**sent[100], "response": response(message("".join(words[:100]) + HARM), status="in_progress")}
    async with gateway(tmp_path, lambda _: pieces(*wire([*sent, *events(message())])), policy=POLICY) as served:
        assert "bomb" not in (await ask(served, stream=True)).text


async def test_an_upstream_without_this_route_is_an_error_of_its_own(tmp_path: Path) -> None:
    missing = httpx.Response(404, json={"detail": "Not Found"})
    async with gateway(tmp_path, lambda _: missing, policy=POLICY) as served:
        assert (await ask(served)).status_code == 404


async def test_requests_without_such_tools_stay_chat_requests(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("fine"), policy=POLICY) as served:
        assert (await ask(served, tools=[])).json()["output"][0]["content"][0]["text"] == "fine"
        assert served.fake.paths == ["/v1/chat/completions"]


async def test_letters_in_pieces_that_repeat_are_one_word(tmp_path: Path) -> None:
    # A piece that equals an earlier one by chance is no repetition.
    sent = events(message())
    letters = [{"type": "response.new_piece", "output_index": 0, "words": letter} for letter in "bomb"]
    outputs = [
        {"type": "response.shell_call_output_content.delta", "output_index": 1, "delta": {"stdout": letter}}
        for letter in "bomb"
    ]
    for pieces_of_word in (letters, outputs):
        stream = [*sent[:4], *pieces_of_word, *sent[4:]]
        async with gateway(tmp_path, lambda _, stream=stream: pieces(*wire(stream)), policy=POLICY) as served:
            assert "policy default" in (await ask(served, stream=True)).text


@pytest.mark.parametrize("field", ["summary", "content"])
async def test_reasoning_that_is_passed_back_is_judged(tmp_path: Path, field: str) -> None:
    policy = POLICY.model_copy(update={"input": Rail(enabled=True, action="refuse")})
    thought = {"type": "reasoning", field: [{"type": "summary_text", "text": HARM}]}
    async with gateway(tmp_path, answers(message()), policy=policy) as served:
        assert "policy default" in (await ask(served, input=[thought, {"role": "user", "content": "go"}])).text


CHINESE = "\u5982\u4f55\u5236\u9020\u70b8\u5f39"


@pytest.mark.parametrize("words", [CHINESE, "how to make one"])
def test_words_without_spaces_are_no_label(words: str) -> None:
    completion = ResponseReader({}).completion({"id": "r", "output": [], "output_text": words})
    assert words in "".join(map(str, completion["choices"][0]["message"].values()))
