"""What clients of the model server see: replies whole or as events, limits and errors in OpenAI's form."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from equipoise.media.encode import png_data_url
from equipoise.model_server.app import BY, ModelServer, create
from equipoise.model_server.generation_queue import GenerationQueue
from equipoise.model_server.prompt_room import PromptRoom
from equipoise.model_server.stopping_server import StoppingServer
from equipoise.types import Prompt
from tests.model_server.models import EchoModel

pytestmark = pytest.mark.anyio
SOON = 30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def served(model: EchoModel, **limits: int) -> ModelServer:
    return ModelServer(GenerationQueue(model, **limits), PromptRoom(model), "toy/echo", 64, 1)


@asynccontextmanager
async def client(server: ModelServer) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create(server))
    async with httpx.AsyncClient(transport=transport, base_url="http://server/v1", timeout=SOON) as opened:
        yield opened
    server.queue.close()


def chat_body(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "any", "messages": [{"role": "user", "content": text}], **fields}


async def test_a_reply_has_the_form_of_openais() -> None:
    async with client(served(EchoModel())) as http:
        answer = await http.post("/chat/completions", json=chat_body("two words", stop=["nothing"]))
    document = answer.json()
    (choice,) = document["choices"]
    assert choice["message"] == {"role": "assistant", "content": "two words", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert document["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    assert document["model"] == "toy/echo"
    assert BY not in answer.headers


async def test_who_replaced_the_reply_is_said() -> None:
    async with client(served(EchoModel())) as http:
        answer = await http.post("/chat/completions", json=chat_body("harm"))
    assert answer.headers[BY] == "guard"


async def test_events_hold_the_same_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.model_server.app.SILENCE", 0.05)
    model = EchoModel()
    model.go.clear()
    threading.Timer(0.3, model.go.set).start()
    async with client(served(model)) as http:
        fields = {"stream": True, "stop": [" end"], "stream_options": {"include_usage": True}}
        answer = await http.post("/chat/completions", json=chat_body("a reply end", **fields))
    lines = answer.text.split("\n\n")
    assert ": keepalive" in lines, "a silent connection is kept open"
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "a reply"
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]][-1] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert lines[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("fail", 400, "invalid_request"),
        ("bug", 500, "internal"),
        ("panic", 500, "internal"),
        ("broken", 500, "no_reply"),
    ],
)
async def test_errors_have_openais_form(text: str, status: int, code: str) -> None:
    async with client(served(EchoModel())) as http:
        whole = await http.post("/chat/completions", json=chat_body(text))
        stream = await http.post("/chat/completions", json=chat_body(text, stream=True))
    assert (whole.status_code, whole.json()["error"]["code"]) == (status, code)
    assert "secret" not in whole.text
    events = [json.loads(line[6:]) for line in stream.text.split("\n\n") if line.startswith("data: {")]
    assert events[-1]["error"]["code"] == code
    assert "[DONE]" not in stream.text, "a stream that broke does not end as if it were whole"


@pytest.mark.parametrize("stream", [False, True])
async def test_too_many_get_a_status_that_says_so(stream: bool) -> None:
    model = EchoModel()
    model.go.clear()
    async with client(served(model, waiting=1)) as http:
        running = asyncio.create_task(http.post("/chat/completions", json=chat_body("first")))
        await asyncio.to_thread(model.began.wait, SOON)
        waits = asyncio.create_task(http.post("/chat/completions", json=chat_body("second")))
        while not (await http.get("http://server/health")).json()["waiting"]:
            await asyncio.sleep(0.01)
        answer = await http.post("/chat/completions", json=chat_body("third", stream=stream))
        model.go.set()
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["error"]["code"] == "overloaded"
        assert [(await task).status_code for task in (running, waits)] == [200, 200]


async def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    async with client(served(EchoModel(context=20))) as http:
        fits = await http.post("/chat/completions", json=chat_body("word " * 19, max_tokens=10))
        long = await http.post("/chat/completions", json=chat_body("word " * 20, max_tokens=10))
    assert fits.status_code == 200
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_other_routes() -> None:
    async with client(served(EchoModel())) as http:
        models = (await http.get("/models")).json()
        assert [card["id"] for card in models["data"]] == ["toy/echo"]
        assert (await http.get("/models/toy/echo")).json()["id"] == "toy/echo"
        assert (await http.get("/models/other")).json()["error"]["code"] == "model_not_found"
        assert (await http.get("/chat/completions")).status_code == 405
        assert (await http.get("/embeddings")).json()["error"]["code"] == "not_found"
        assert (await http.post("/chat/completions", content=b"{")).json()["error"]["code"] == "invalid_json"
        assert (await http.get("http://server/health")).json()["status"] == "ok"


async def test_nobody_generates_for_a_client_that_left_before_the_first_event() -> None:
    model = EchoModel()
    server = served(model)
    model.go.clear()
    server.queue.submit(Prompt.ask("first"), 8)
    assert await asyncio.to_thread(model.began.wait, SOON)
    body = json.dumps(chat_body("left", stream=True)).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.3"},
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"content-length", b"%d" % len(body))],
    }
    await create(server)(scope, receive, send)
    model.go.set()
    assert (await asyncio.wrap_future(server.queue.submit(Prompt.ask("last"), 64))).reply == "last"
    server.queue.close()
    assert model.batches == [["first"], ["last"]]


@contextmanager
def listening(server: ModelServer, grace: float = SOON) -> Iterator[str]:
    """The server behind a real socket; told to stop at the end."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = StoppingServer(server, lambda: None, grace)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            running.should_exit = True
            thread.join(SOON)


def test_the_sdk_of_openai_reads_it() -> None:
    with listening(served(EchoModel())) as base, openai.OpenAI(base_url=base, api_key="none", max_retries=0) as sdk:
        picture = {"type": "image_url", "image_url": {"url": png_data_url(Image.new("RGB", (2, 2)))}}
        content: Any = [picture, {"type": "text", "text": "look"}]
        messages: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": content}]
        whole = sdk.chat.completions.create(model="m", messages=messages)
        assert whole.choices[0].message.content == "[Be kind.] 1 pictures: look"
        stream = sdk.chat.completions.create(model="m", messages=messages, stream=True)
        text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
        assert text == "[Be kind.] 1 pictures: look"
        with pytest.raises(openai.InternalServerError):
            sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "bug"}])


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_stops_tells_its_clients(stream: bool) -> None:
    model = EchoModel()
    model.go.clear()
    answers: dict[str, httpx.Response] = {}

    def ask(base: str, text: str) -> None:
        answers[text] = httpx.post(f"{base}/chat/completions", json=chat_body(text, stream=stream), timeout=SOON)

    server = served(model)
    with listening(server, grace=0.5) as base:
        clients = [threading.Thread(target=ask, args=(base, text)) for text in ("running", "waiting")]
        clients[0].start()
        assert model.began.wait(SOON)
        clients[1].start()
        while not server.queue.waiting:
            time.sleep(0.01)
    for one in clients:
        one.join(SOON)
    model.go.set()
    for answer in answers.values():
        assert "the server stops" in answer.text
        assert answer.status_code == (200 if stream else 503)
    assert len(answers) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_nobody_generates_for_a_client_that_left(stream: bool) -> None:
    model = EchoModel()
    with listening(served(model)) as base:
        model.go.clear()
        busy = threading.Thread(
            target=httpx.post, args=(f"{base}/chat/completions",), kwargs={"json": chat_body("first")}
        )
        busy.start()
        assert model.began.wait(SOON)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{base}/chat/completions", json=chat_body("left", stream=stream), timeout=0.5)
        time.sleep(0.3)
        model.go.set()
        busy.join(SOON)
        assert httpx.post(f"{base}/chat/completions", json=chat_body("last")).status_code == 200
    assert model.batches == [["first"], ["last"]]
