"""Fields that only look like numbers or tokens: whatever is in them is judged as text, or does not leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.dialects import is_frame
from equipoise.guard.gateway.reply_choices import choice_number
from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
REFUSES = Policy(output=Rail(action="refuse"))
HARM = "how to build a bomb at home"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def chunk(**more: Any) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": "Bread"}, "finish_reason": "stop", **more}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def tokens(text: str) -> dict[str, Any]:
    return {"content": [{"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []}]}


FIELDS: dict[str, dict[str, Any]] = {
    "text, a list": {"text": [HARM]},
    "text, an object": {"text": {"id": HARM, "type": [HARM]}},
    "logprobs, words": {"logprobs": HARM},
    "logprobs, a list": {"logprobs": [HARM]},
    "logprobs, a long token": {"logprobs": tokens(HARM)},
    "logprobs of the message, words": {"delta": {"content": "Bread", "logprobs": HARM}},
    "logprobs of the message, a long token": {"delta": {"content": "Bread", "logprobs": tokens(HARM)}},
    "index": {"index": HARM},
    "finish_reason": {"finish_reason": HARM},
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize(("streams", "wants_stream"), [(True, True), (True, False), (False, True), (False, False)])
async def test_harm_leaves_in_no_field(tmp_path: Path, name: str, *, streams: bool, wants_stream: bool) -> None:
    fields = FIELDS[name]

    def answer(body: dict[str, Any]) -> httpx.Response:
        if streams:
            return pieces(chunk(**fields), b"data: [DONE]\n\n")
        rest = {field: value for field, value in fields.items() if field != "delta"}
        return whole({**message("Bread", **fields.get("delta", {})), **rest})

    async with gateway(tmp_path, answer, policy=REFUSES) as served:
        assert "bomb" not in (await served.chat(stream=wants_stream)).text


@pytest.mark.parametrize("words", [["how ", "to ", "a bomb"], ["how", "to", "a", "bomb"]])
async def test_words_that_come_one_by_one_as_logprobs_are_judged_together(tmp_path: Path, words: list[str]) -> None:
    chunks = [delta("Bread", logprobs=word) for word in words]
    async with gateway(tmp_path, lambda body: pieces(*chunks, delta("", finish="stop")), policy=REFUSES) as served:
        assert "bomb" not in (await served.chat(stream=True)).text


@pytest.mark.parametrize("index", ["kill-them-all", HARM, True, None, -1, 10**9, 1.5, [HARM], {"a": HARM}, "1"])
async def test_an_index_that_is_no_small_number_does_not_leave_a_stream(tmp_path: Path, index: Any) -> None:
    async with gateway(tmp_path, lambda body: pieces(chunk(index=index), b"data: [DONE]\n\n")) as served:
        text = (await served.chat(stream=True)).text
        for line in text.splitlines():
            if line.startswith("data: {"):
                assert all(type(choice["index"] or 0) is int for choice in json.loads(line[6:]).get("choices", []))
    assert choice_number({"index": index}, 3) == 3


async def test_a_replaced_choice_has_its_place_as_its_number(tmp_path: Path) -> None:
    choices = message("Bread"), {**message("a bomb"), "index": "a bomb"}
    async with gateway(tmp_path, lambda body: whole(*choices), policy=REFUSES) as served:
        response = await served.chat(n=2)
        assert "bomb" not in response.text
        assert [choice["index"] for choice in response.json()["choices"]] == [0, 1]


@pytest.mark.parametrize(
    "value",
    [None, tokens(" bread"), {"tokens": ["a", " b", ".\n"], "top_logprobs": [{"a": -1.0}]}, [1.0, None], {}, ""],
)
def test_tokens_with_their_probabilities_are_no_words(value: Any) -> None:
    assert is_frame("logprobs", value)


async def test_only_one_piece_of_a_chunk_has_the_token_counts(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choices = [{"index": at, "delta": {"content": "Bread"}, "finish_reason": "stop"} for at in range(3)]
    frame = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    event = b"data: " + json.dumps({**frame, "choices": choices, "usage": usage}).encode() + b"\n\n"
    async with gateway(tmp_path, lambda body: pieces(event, b"data: [DONE]\n\n")) as served:
        text = (await served.chat(stream=True, n=3, stream_options={"include_usage": True})).text
        assert text.count('"total_tokens":7') == 1
        assert text.count("Bread") == 3
