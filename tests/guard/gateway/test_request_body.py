"""Bodies of requests that no client should send: each ends in one clear error."""

from __future__ import annotations

import gzip
import json
import pydoc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.guard.gateway.content_parts import MOST_PARTS, parse_request
from equipoise.guard.gateway.json_nodes import has_too_many_nodes
from tests.guard.gateway.upstreams import delta, gateway, message, pieces, says, whole

pytestmark = pytest.mark.anyio
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PLAIN = json.dumps(CHAT).encode()


def nested(levels: int) -> bytes:
    return (
        b'{"model": "m", "x": ' + b"[" * levels + b"]" * levels + PLAIN[14:].replace(b'"messages"', b', "messages"', 1)
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (PLAIN, {}, 200, None),
        (PLAIN, {"content-encoding": "identity"}, 200, None),
        (PLAIN, {"content-type": "text/plain"}, 200, None),
        (b"\xef\xbb\xbf" + PLAIN + b"\n", {}, 200, None),
        (gzip.compress(PLAIN), {"content-encoding": "gzip"}, 415, "unsupported_encoding"),
        (PLAIN, {"content-encoding": "zstd"}, 415, "unsupported_encoding"),
        (PLAIN + b"}", {}, 400, "invalid_json"),
        (PLAIN + PLAIN, {}, 400, "invalid_json"),
        (b"", {}, 400, "invalid_json"),
        (b"[]", {}, 400, "invalid_json"),
        (PLAIN.replace(b'"hi"', b"NaN"), {}, 400, "invalid_json"),
        (PLAIN.replace(b'"m"', b'"m", "temperature": 1e999'), {}, 400, "invalid_json"),
        (PLAIN.replace(b'"m"', b'"m", "seed": ' + b"9" * 5000), {}, 400, "invalid_json"),
        (PLAIN.replace(b"hi", b"\xe9"), {}, 400, "invalid_json"),
        (PLAIN.replace(b'"m"', b'"m", "x": [' + b"[]," * 200_000 + b"0]"), {}, 413, "request_too_large"),
        (PLAIN.replace(b'"m"', b'"m", "x": [' + b'"",' * 300_000 + b"0]"), {}, 413, "request_too_large"),
        (PLAIN.replace(b'"hi"', b'"' + b"one, two [3] {4}; " * 40_000 + b'"'), {}, 200, None),
        (PLAIN.decode().encode("utf-16"), {}, 200, None),
        (nested(150), {}, 200, None),
        (nested(900), {}, 400, "invalid_json"),
        (nested(100_000), {}, 400, "invalid_json"),
    ],
)
async def test_a_body_is_read_or_refused_with_its_reason(
    tmp_path: Path, content: bytes, headers: dict[str, str], status: int, code: str | None
) -> None:
    async with gateway(tmp_path, says("fine")) as served:
        response = await served.client.post("/v1/chat/completions", content=content, headers=headers)
        assert response.status_code == status, response.text
        if status != 200:
            assert response.json()["error"]["code"] == code
            assert not served.fake.requests


async def test_of_a_name_that_comes_twice_the_upstream_gets_the_one_that_was_judged(tmp_path: Path) -> None:
    twice = PLAIN[:-1] + b', "messages": [{"role": "user", "content": "the second"}]}'
    async with gateway(tmp_path, says("fine")) as served:
        await served.client.post("/v1/chat/completions", content=twice)
        assert served.fake.requests[0]["messages"][0]["content"] == "the second"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_is_nested_too_deep_is_an_error_of_the_upstream(tmp_path: Path, stream: bool) -> None:
    deep: Any = "bottom"
    for _ in range(700):
        deep = [deep]

    async with gateway(
        tmp_path,
        lambda body: pieces(delta("fine"), delta(None, extra=deep)) if stream else whole(message("fine", extra=deep)),
    ) as served:
        response = await served.chat(stream=stream)
        assert "upstream" in response.text
        assert "bottom" not in response.text
        assert response.status_code == (200 if stream else 502)
        assert served.entries()[-1]["status"] == 502


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_long_body_is_read_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str) -> None:
    # On the thread of the event loop it would keep all other clients waiting.
    threads = []

    def noting(body: Any) -> Any:
        threads.append(threading.current_thread())
        return parse_request(body)

    monkeypatch.setattr("equipoise.guard.gateway.chat_request.parse_request", noting)
    async with gateway(tmp_path, says("fine")) as served:
        for content in ("hi", "words " * 20_000):
            body = {"model": "m", "max_tokens": 9, "input": content, "messages": [{"role": "user", "content": content}]}
            assert (await served.client.post(route, json=body)).status_code == 200
    short, long = threads
    assert short is threading.current_thread()
    assert long is not short


@pytest.mark.parametrize(
    ("text", "is_more"),
    [
        ("[1, 2, 3]", False),
        ("[1, 2, 3, 4]", True),
        ('["a, b, c, d, e", "[[[[["]', False),
        (r'["a \" , , , , \\", 1, 2]', False),
        (r'["a \\", 1, 2, 3]', True),
        ("[[], [], [], []]", True),
        ('{"a": 1, "b": {"c": 2}}', False),
        ('["", "", "", ""]', True),
        ('"' * 30, True),
    ],
)
def test_values_are_counted_outside_of_strings(text: str, is_more: bool) -> None:
    assert has_too_many_nodes(text, 3) is is_more


async def test_a_request_of_very_many_parts_is_refused(tmp_path: Path) -> None:
    few = [{"role": "user", "content": "a"}] * 3
    async with gateway(tmp_path, says("fine")) as served:
        assert (await served.chat([{"type": "text", "text": "a"}] * (MOST_PARTS + 1))).status_code == 400
        body = {"model": "m", "messages": few * (MOST_PARTS // 3 + 1)}
        refused = await served.client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
        assert f"at most {MOST_PARTS} parts" in refused.json()["error"]["message"]
        assert not served.fake.requests


async def test_long_bodies_are_parsed_and_written_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    for module, name in (("request_body", "_parsed"), ("chat", "_as_bytes"), ("chat_response", "parsed")):
        where = f"equipoise.guard.gateway.{module}.{name}"
        work = pydoc.locate(where)
        assert callable(work)

        def noting(*values: Any, name: str = name, work: Callable[..., Any] = work) -> Any:
            threads.add((name, threading.current_thread() is threading.main_thread()))
            return work(*values)

        monkeypatch.setattr(where, noting)
    async with gateway(tmp_path, says("words " * 20_000)) as served:
        await served.chat("words " * 20_000)
    assert threads == {("_parsed", False), ("_as_bytes", False), ("parsed", False)}
