"""Every upstream's dialect passes unchanged, is judged once, and its errors keep status, code, message and headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway.dialects import passed_back
from equipoise.guard.gateway.upstream import connect
from equipoise.guard.gateway.upstream_errors import reported_error
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import AnswerPolicy, Policy, Rail, StreamPolicy
from tests.guard.fakes import Words
from tests.guard.gateway.dialect_shapes import ERRORS, GOOD, LONG, STREAMS, THOUGHT, USAGE, WHOLE, chunk, wire
from tests.guard.gateway.upstreams import gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def documents_of(response: httpx.Response) -> list[dict[str, Any]]:
    data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return [json.loads(line) for line in data[:-1]]


def content_of(documents: Sequence[dict[str, Any]], name: str = "content") -> str:
    deltas = [choice.get("delta") or {} for document in documents for choice in document.get("choices") or []]
    return "".join(delta.get(name) or "" for delta in deltas if isinstance(delta.get(name), str))


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_passes_with_every_chunk_and_is_judged_once(tmp_path: Path, name: str) -> None:
    words = Words()
    async with gateway(tmp_path, lambda body: pieces(*wire(STREAMS[name])), detector=words) as served:
        documents = documents_of(await served.chat(stream=True))
        assert content_of(documents) == GOOD
        assert sorted(map(json.dumps, documents)) == sorted(map(json.dumps, STREAMS[name]))
        judged = max(words.texts, key=len)
        assert GOOD in words.texts, "the content is judged, as it is shown"
        assert judged.count("Mix fl") == 1, "nothing that a server repeats is read again"
        assert len(judged) < 1000
        if THOUGHT in json.dumps(STREAMS[name]):
            assert judged.count("The user") == 1


@pytest.mark.parametrize("name", WHOLE)
async def test_a_whole_reply_passes_byte_for_byte(tmp_path: Path, name: str) -> None:
    words = Words()
    async with gateway(tmp_path, lambda body: httpx.Response(200, json=WHOLE[name]), detector=words) as served:
        response = await served.chat()
        assert response.json() == WHOLE[name]
        assert GOOD in words.texts
        assert response.headers["x-equipoise-receipts"].endswith("unsupported=0")


@pytest.mark.parametrize("name", STREAMS)
async def test_harm_in_a_dialects_stream_is_stopped(tmp_path: Path, name: str) -> None:
    text = json.dumps(STREAMS[name])
    harmful = json.loads(text.replace("ead th", "a bomb"))
    async with gateway(
        tmp_path, lambda body: pieces(*wire(harmful)), policy=Policy(output=Rail(action="refuse"))
    ) as served:
        documents = documents_of(await served.chat(stream=True))
        assert "bomb" not in json.dumps(documents)
        assert documents[-1]["choices"] == [] or documents[-1]["choices"][0]["finish_reason"] == "content_filter"


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("status", [400, 429, 503])
async def test_an_error_keeps_status_code_and_message(tmp_path: Path, name: str, status: int) -> None:
    body, text, code, kind = ERRORS[name]
    async with gateway(tmp_path, lambda _: httpx.Response(status, json=body)) as served:
        response = await served.chat()
        error = response.json()["error"]
        assert (response.status_code, error["message"]) == (status, text)
        assert error["code"] == (code if code is not None else "upstream_error")
        assert kind is None or error["type"] == kind


@pytest.mark.parametrize("name", [name for name, row in ERRORS.items() if isinstance(row[0], dict)])
async def test_an_error_within_a_stream_keeps_code_and_message(tmp_path: Path, name: str) -> None:
    body, text, code, _ = ERRORS[name]
    parts = [chunk({"content": "Mix "}), chunk({"content": "flour"}), body]
    async with gateway(tmp_path, lambda _: pieces(*wire(parts))) as served:
        documents = documents_of(await served.chat(stream=True))
        assert documents[-1]["error"]["message"] == text
        assert documents[-1]["error"]["code"] == (code if code is not None else "upstream")
        assert content_of(documents[:-1]) == "Mix flour"


async def test_an_error_with_status_200_is_an_error(tmp_path: Path) -> None:
    body = {"error": {"message": LONG, "code": 429}}
    async with gateway(tmp_path, lambda _: httpx.Response(200, json=body)) as served:
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["message"]) == (429, LONG)


@pytest.mark.parametrize(
    ("body", "sent", "expected"),
    [
        ([{"error": {"code": 429, "message": LONG, "details": [{"retryDelay": "36.5s"}]}}], {}, "37"),
        ({"error": {"message": LONG, "retry_after": 3}}, {}, "3"),
        ({"error": {"message": LONG, "retry_after": 3}}, {"retry-after": "9"}, "9"),
        ({"error": {"message": LONG, "details": [{"retryDelay": "soon"}]}}, {}, None),
    ],
)
async def test_the_time_of_a_retry_may_stand_in_the_body(tmp_path: Path, body: Any, sent: Any, expected: Any) -> None:
    async with gateway(tmp_path, lambda _: httpx.Response(429, json=body, headers=sent)) as served:
        assert (await served.chat()).headers.get("retry-after") == expected


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_error_before_a_stream_has_its_status(tmp_path: Path, kind: str) -> None:
    body = json.dumps({"error": {"message": LONG, "type": "overloaded_error", "code": 529}}).encode()
    sent = body if "json" in kind else b"data: " + body + b"\n\n" + DONE

    def answer(_: Any) -> httpx.Response:
        response = pieces(sent, kind=kind)
        response.headers["retry-after"] = "3"
        return response

    async with gateway(tmp_path, answer) as served:
        response = await served.chat(stream=True)
        assert (response.status_code, response.headers["retry-after"]) == (529, "3")
        assert response.json()["error"]["message"] == LONG
        assert served.entries()[-1]["status"] == 529


async def test_a_choice_without_a_message_passes(tmp_path: Path) -> None:
    choice = {"index": 0, "message": None, "finish_reason": "content_filter"}
    async with gateway(tmp_path, lambda _: whole(choice)) as served:
        assert (await served.chat()).json()["choices"] == [choice]


async def test_an_infinite_log_probability_beside_a_blocked_choice_is_null(tmp_path: Path) -> None:
    choices = [{**message("fine"), "logprobs": {"content": [{"token": "fine", "logprob": float("-inf")}]}}]
    body = json.dumps({"id": "a", "choices": [*choices, message("a bomb", 1)]})
    refuses = Policy(output=Rail(action="refuse"))
    async with gateway(tmp_path, lambda _: httpx.Response(200, text=body), policy=refuses) as served:
        one, two = (await served.chat()).json()["choices"]
        assert one["logprobs"]["content"][0]["logprob"] is None
        assert two["finish_reason"] == "content_filter"


def test_no_error_is_made_up() -> None:
    assert reported_error({}) is None
    assert reported_error({"error": None, "detail": []}) is None
    assert reported_error(7) is None
    assert reported_error("  ") is None
    nested: Any = "deep"
    for _ in range(50):
        nested = {"error": nested}
    assert reported_error(nested) is None


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"retry-after": "7"}, {"retry-after": "7"}),
        ({"Retry-After": "0.5"}, {"retry-after": "0.5"}),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        ({"retry-after": "soon"}, {}),
        ({"retry-after-ms": "250"}, {"retry-after-ms": "250"}),
        ({"x-ratelimit-remaining-tokens": "3", "set-cookie": "a=b"}, {"x-ratelimit-remaining-tokens": "3"}),
        ({"x-request-id": "r1", "server": "uvicorn", "content-length": "3"}, {"x-request-id": "r1"}),
        ({"x-request-id": "r" * 300}, {}),
    ],
)
def test_headers_that_a_client_needs_pass(headers: dict[str, str], kept: dict[str, str]) -> None:
    assert passed_back(headers) == kept


@pytest.mark.parametrize("stream", [False, True])
async def test_rate_limits_and_ids_pass_with_replies_and_errors(tmp_path: Path, stream: bool) -> None:
    sent = {"x-request-id": "r1", "x-ratelimit-remaining-requests": "9"}

    def answer(body: dict[str, Any]) -> httpx.Response:
        response = pieces(*wire(STREAMS["ollama"])) if stream else whole(message("fine"))
        response.headers.update(sent)
        return response

    async with gateway(tmp_path, answer) as served:
        response = await served.chat(stream=stream)
        assert {name: response.headers.get(name) for name in sent} == sent
    folder = tmp_path / "error"
    folder.mkdir()
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    async with gateway(folder, lambda _: httpx.Response(429, headers={**sent, "retry-after": date})) as served:
        response = await served.chat(stream=stream)
        assert (response.status_code, response.headers["retry-after"]) == (429, date)
        assert response.headers["x-request-id"] == "r1"


@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("every", [3, 1000])
async def test_usage_survives_a_blocked_choice(tmp_path: Path, length: int, every: int) -> None:
    usage = {"id": "a", "choices": [], "usage": USAGE}
    harm = [chunk({"content": "a bomb "}) for _ in range(length)]
    policy = Policy(output=Rail(action="refuse"), stream=StreamPolicy(hold=4, every=every))
    parts = wire([*harm, chunk({}, "stop"), usage])
    async with gateway(tmp_path, lambda _: pieces(*parts), policy=policy) as served:
        documents = documents_of(await served.chat(stream=True, stream_options={"include_usage": True}))
        assert documents[-1]["usage"] == USAGE
        assert documents[-1]["choices"] == []
        assert "bomb" not in json.dumps(documents)


async def test_usage_in_the_only_chunk_survives(tmp_path: Path) -> None:
    parts = wire([chunk({"content": "a bomb"}, "stop", usage=USAGE)])
    async with gateway(tmp_path, lambda _: pieces(*parts), policy=Policy(output=Rail(action="refuse"))) as served:
        assert documents_of(await served.chat(stream=True))[-1]["usage"] == USAGE


async def test_three_choices_of_which_one_is_blocked_keep_the_usage(tmp_path: Path) -> None:
    texts = ["fine", "a bomb", "good"]
    parts = [chunk({"content": text}, choice={"index": index}) for index, text in enumerate(texts)]
    parts += [chunk({}, "stop", {"index": index}) for index in range(3)]
    parts.append({"id": "a", "choices": [], "usage": USAGE})
    async with gateway(tmp_path, lambda _: pieces(*wire(parts)), policy=Policy(output=Rail(action="refuse"))) as served:
        documents = documents_of(await served.chat(stream=True))
        assert content_of(documents) == "finegood"
        assert documents[-1]["usage"] == USAGE


async def test_pings_and_empty_events_are_no_chunks(tmp_path: Path) -> None:
    noise = [b"data:\n\n", b'event: ping\ndata: {"type": "ping"}\n\n', b'data: {"type": "ping"}\n\n', b": hi\n\n"]
    parts = [part for each_chunk in wire(STREAMS["ollama"]) for part in (*noise, each_chunk)]
    async with gateway(tmp_path, lambda _: pieces(*parts)) as served:
        assert content_of(documents_of(await served.chat(stream=True))) == GOOD


async def test_comments_come_while_text_is_held(tmp_path: Path) -> None:
    pauses = [0.05] * 12
    parts = [chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "x"}}]})]
    sent = [part for pause in pauses for part in (pause, wire(parts)[0])]
    policy = Policy(stream=StreamPolicy(keepalive=0.05))
    async with gateway(tmp_path, lambda _: pieces(*sent, *wire([chunk({}, "tool_calls")])), policy=policy) as served:
        response = await served.chat(stream=True)
        assert content_of(documents_of(response), "role") == ""
        assert response.text.endswith("data: [DONE]\n\n")


async def test_the_upstreams_comments_are_passed_on_without_their_words(tmp_path: Path) -> None:
    parts = [*wire(STREAMS["ollama"])[:-1], b": a bomb\n\n", DONE]
    long = wire([chunk({"content": "fine " * 60})])[0]
    async with gateway(
        tmp_path, lambda _: pieces(long, *parts), policy=Policy(stream=StreamPolicy(mode="off"))
    ) as served:
        text = (await served.chat(stream=True)).text
        assert ": keepalive\n\n" in text
        assert "bomb" not in text


class Silent(httpx.AsyncByteStream):
    """A reply that never comes, and whether it was given up."""

    def __init__(self) -> None:
        self.begun, self.closed = asyncio.Event(), False

    async def __aiter__(self) -> Any:
        self.begun.set()
        await asyncio.sleep(60)
        yield b""

    async def aclose(self) -> None:
        self.closed = True


async def test_a_client_that_leaves_stops_the_upstream_of_a_whole_reply(tmp_path: Path) -> None:
    silent = Silent()
    async with gateway(tmp_path, lambda _: httpx.Response(200, stream=silent)) as served:
        body = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()
        waiting = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await silent.begun.wait()
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            return

        app = served.client._transport.app  # type: ignore[attr-defined]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": []}
        await asyncio.wait_for(app({**scope, "http_version": "1.1"}, receive, send), 10)
        assert silent.closed
        while served.service._background:
            await asyncio.wait(served.service._background, timeout=5)
        assert served.entries()[-1]["status"] == 499


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rail", ["input", "output"])
async def test_a_refusal_can_be_content(tmp_path: Path, stream: bool, rail: str) -> None:
    policy = Policy(
        input=Rail(enabled=rail == "input", action="refuse"),
        output=Rail(action="refuse"),
        answer=AnswerPolicy(refusal_in="content"),
    )
    parts = wire([chunk({"content": "a bomb"}), chunk({}, "stop")])
    async with gateway(
        tmp_path, lambda _: pieces(*parts) if stream else whole(message("a bomb")), policy=policy
    ) as served:
        response = await served.chat("a bomb" if rail == "input" else "hi", stream=stream)
        if stream:
            assert "policy default" in content_of(documents_of(response))
        else:
            (choice,) = response.json()["choices"]
            assert "policy default" in choice["message"]["content"]
            assert (choice["message"]["refusal"], choice["finish_reason"]) == (None, "content_filter")


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
async def test_a_key_may_stand_in_other_headers(tmp_path: Path, header: str) -> None:
    async with gateway(tmp_path, lambda _: whole(message("fine"))) as served:
        body = {"messages": [{"role": "user", "content": "x"}]}
        await served.client.post("/v1/chat/completions", json=body, headers={header: "k"})
        assert served.fake.heard[-1]["authorization"] == "Bearer k"


async def test_a_model_by_its_name(tmp_path: Path) -> None:
    async with gateway(tmp_path, lambda _: whole(message("fine"))) as served:
        # The scripted upstream answers every GET with its list.
        assert (await served.client.get("/v1/models/org/m")).json()["object"] == "list"
        assert served.fake.heard[-1]["host"] == "upstream"


class OnlyWhole:
    """Finds harm only in a text that is exactly `a bomb`."""

    name = identity = "only-whole"

    def __call__(self, items: Sequence[GuardInput]) -> list[HarmScore]:
        return [HarmScore(self.name, float("a bomb" in item.response)) for item in items]


async def test_a_field_that_grows_beside_the_content_is_judged_whole(tmp_path: Path) -> None:
    grows = ["a", "a b", "a bo", "a bomb"]
    parts = [chunk({"content": "fine "}, transcript=text) for text in grows]
    async with gateway(tmp_path, lambda _: pieces(*wire([*parts, chunk({}, "stop")])), detector=OnlyWhole()) as served:
        assert "a bomb" not in (await served.chat(stream=True)).text


@pytest.mark.parametrize("nothing", ["", "null"])
@pytest.mark.parametrize("last", ["stop", None])
async def test_an_empty_finish_reason_is_none(tmp_path: Path, nothing: str, last: str | None) -> None:
    words = [f"word {number} " for number in range(120)]
    parts = [chunk({"content": word}, nothing) for word in words]
    counts: list[int] = []

    class Asked(OnlyWhole):
        def __call__(self, items: Sequence[GuardInput]) -> list[HarmScore]:
            counts.append(len(items))
            return super().__call__(items)

    ends = [] if last is None else [chunk({}, last)]
    sent = [piece for part in wire([*parts, *ends]) for piece in (part, 0.002)]
    async with gateway(tmp_path, lambda _: pieces(*sent), detector=Asked()) as served:
        documents = documents_of(await served.chat(stream=True))
        assert content_of(documents) == "".join(words)
        assert "error" not in str(documents)
        assert len(counts) > 2, "the stream is judged as it comes, not only at its end"


async def test_azures_version_and_key_go_with_each_request() -> None:
    heard: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request)
        return whole(message("fine"))

    url = "https://name.openai.azure.com/openai/deployments/m?api-version=2024-10-21"
    upstream = connect(url, key="secret")
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url=upstream.client.base_url, params=upstream.client.params
    ) as client:
        reached = replace(upstream, client=client)
        await reached.send(b"{}", reached.headers({}, pass_on=False), stream=False)
        await reached.models(reached.headers({}, pass_on=False))
    await upstream.client.aclose()
    assert str(heard[0].url) == url.replace("?", "/chat/completions?")
    assert str(heard[1].url) == url.replace("?", "/models?")
    assert {request.headers["api-key"] for request in heard} == {"secret"}
