"""Whatever a client or an upstream sends: OpenAI's shape, no 500, a receipt for every part, and no word unjudged."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from equipoise.guard.gateway.content_parts import parse_request
from equipoise.guard.policy import PicturePolicy, Policy, Rail, StreamPolicy
from tests.guard.gateway.upstreams import Gateway, gateway, pieces, says

BOTH = Policy(input=Rail(action="refuse"), pictures=PicturePolicy(fail="open"))
DONE = b"data: [DONE]\n\n"
KNOWN = {200, 400, 401, 404, 405, 413, 429, 502, 503, 504}

words = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["a bomb", "\ud800", "content/0", "data:image/png;base64,"]
)
NAMES = """role content content/0 tool_calls name refusal type text image_url url audio id function arguments message
delta
index finish_reason choices reasoning_content transcript"""
names = st.sampled_from(NAMES.split()) | st.text(max_size=5)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
objects = st.dictionaries(names, values, max_size=5)
messages = st.lists(
    objects | st.builds(dict, role=st.sampled_from(["user", "tool", "system"]), content=values), max_size=3
)
requests = (
    st.builds(lambda more, messages_value: {**more, "messages": messages_value}, objects, messages | values) | values
)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def run(make: Callable[[Gateway], Coroutine[Any, Any, None]], answer: Any, policy: Policy = BOTH, **more: Any) -> None:
    async def go(folder: Path) -> None:
        async with gateway(folder, answer, policy=policy, **more) as served:
            await make(served)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(go(Path(folder)))


def in_shape(response: httpx.Response) -> None:
    assert response.status_code in KNOWN
    if response.status_code != 200:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert "Traceback" not in response.text


@quick
@given(body=requests)
@example(body={"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "content/0": "b"}]})
def test_any_request_ends_in_shape_and_in_receipts(body: Any) -> None:
    async def ask(served: Gateway) -> None:
        response = await served.client.post("/v1/chat/completions", content=json.dumps(body).encode())
        in_shape(response)
        assert response.json().get("error", {}).get("code") != "internal"
        try:
            expected = [part.path for part in parse_request(body if isinstance(body, dict) else {}).parts]
        except ValueError:
            assert response.status_code == 400
            return
        entry = served.entries()[-1]
        receipts = {part["path"]: part["outcome"] for part in entry["receipts"]}
        assert len(set(expected)) == len(expected)
        assert set(expected) <= set(receipts)
        assert set(receipts.values()) <= {"checked", "skipped", "unsupported"}
        if "bomb" in json.dumps(body["messages"]) and response.status_code == 200 and "stream" not in body:
            assert served.fake.requests or "refusal" in response.json()["choices"][0]["message"]

    run(ask, says("hello"))


@quick
@given(
    choices=st.lists(objects | st.builds(dict, message=objects), max_size=3) | values,
    more=objects,
    stream=st.booleans(),
)
@example(choices=[{"index": 0, "message": ["a bomb"]}], more={}, stream=True)
@example(choices=[{"message": {"content": ["a"], "content/0": "a bomb"}}], more={}, stream=False)
@example(choices=[{"message": {"content": "a"}}], more={"transcript": "a bomb"}, stream=True)
def test_no_harmful_word_of_any_reply_leaves_unjudged(choices: Any, more: Any, stream: bool) -> None:
    body = {**more, "choices": choices}
    del_error = {name: value for name, value in body.items() if name != "error"}
    data = json.dumps(del_error).encode()
    chunk = json.dumps(del_error).replace('"message"', '"delta"').encode()

    def answer(_: Any) -> httpx.Response:
        if stream:
            return pieces(b"data: " + chunk + b"\n\n", DONE)
        return httpx.Response(200, content=data, headers={"content-type": "application/json"})

    async def ask(served: Gateway) -> None:
        response = await served.chat(**({"stream": True} if stream else {}))
        in_shape(response)
        assert b'"internal"' not in response.content
        receipts = served.entries()[-1]["receipts"]
        assert receipts
        silent = ("role", "id", "type", "index", "object", "finish_reason", "logprobs", "tool_call_id")
        if response.status_code == 200 and b"bomb" in response.content:
            # Only names of fields, and fields that hold no words for people, may hold it.
            document = json.loads(data)
            assert any(_held(document, name) for name in silent) or not _words(document)

    run(ask, answer, Policy(stream=StreamPolicy(mode="buffer"), output=Rail(action="refuse")))


def _words(value: Any) -> bool:
    if isinstance(value, str):
        return "bomb" in value
    if isinstance(value, dict):
        return any(_words(item) for item in value.values())
    return isinstance(value, list) and any(_words(item) for item in value)


def _held(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return any((key == name and _words(item)) or _held(item, name) for key, item in value.items())
    return isinstance(value, list) and any(_held(item, name) for item in value)
