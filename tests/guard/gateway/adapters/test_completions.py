"""Legacy completions: several prompts, the prompt before the reply, and log-probabilities in lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from equipoise.guard.policy import Policy, Rail
from tests.guard.gateway.upstreams import Gateway, delta, gateway, message, pieces, whole

pytestmark = pytest.mark.anyio
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tokens(*words: str) -> dict[str, Any]:
    content = [{"token": word, "logprob": -0.5, "top_logprobs": [{"token": word, "logprob": -0.5}]} for word in words]
    return {"content": content, "refusal": None}


def echoes(body: dict[str, Any]) -> httpx.Response:
    """Replies with the prompt in other words; as a stream, word by word."""
    text = f"to {body['messages'][0]['content']}"
    if body.get("stream"):
        return pieces(*(delta(f"{word} ") for word in text.split()), delta(None, finish="stop"), b"data: [DONE]\n\n")
    logprobs = tokens(*text.split()) if body.get("logprobs") else None
    return whole(*({**message(text, at), "logprobs": logprobs} for at in range(body.get("n") or 1)), usage=USAGE)


def sdk(served: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url="http://gateway/v1", api_key="k", http_client=served.client, max_retries=0)


async def test_several_prompts_have_their_choices_in_order_and_an_entry_each(tmp_path: Path) -> None:
    async with gateway(tmp_path, echoes) as served:
        prompts = [f"prompt {number}" for number in range(9)]
        reply = await sdk(served).completions.create(model="m", prompt=prompts, n=2)
        assert [choice.text for choice in reply.choices] == [f"to {prompt}" for prompt in prompts for _ in range(2)]
        assert [choice.index for choice in reply.choices] == list(range(18))
        assert reply.usage is not None
        assert reply.usage.total_tokens == 45
        assert len(served.entries()) == 9


async def test_one_of_several_prompts_may_be_refused_alone(tmp_path: Path) -> None:
    async with gateway(tmp_path, echoes, policy=Policy(output=Rail(action="refuse"))) as served:
        reply = await sdk(served).completions.create(model="m", prompt=["bread", "a bomb", "cheese"])
        assert [choice.finish_reason for choice in reply.choices] == ["stop", "content_filter", "stop"]
        assert "bomb" not in str(reply)


async def test_an_error_about_one_of_several_prompts_is_that_of_all(tmp_path: Path) -> None:
    def busy(body: dict[str, Any]) -> httpx.Response:
        if "3" in body["messages"][0]["content"]:
            return httpx.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after": "7"})
        return echoes(body)

    async with gateway(tmp_path, busy) as served:
        response = await served.client.post("/v1/completions", json={"model": "m", "prompt": list("12345")})
        assert response.status_code == 429
        assert response.headers["retry-after"] == "7"
        assert response.json()["error"]["message"] == "slow down"


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ["one", "two"], "stream": True},
        {"prompt": ["one", 2]},
        {"prompt": [1, 2]},
        {"prompt": [[1], [2]]},
        {"prompt": ["x"] * 65},
        {"prompt": []},
        {"prompt": "one", "best_of": 2},
        {"prompt": "one", "suffix": "end"},
        {"prompt": "one", "echo": True, "max_tokens": 0},
        {"prompt": "one", "echo": True, "logprobs": 1},
    ],
)
async def test_what_no_chat_request_can_hold_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    async with gateway(tmp_path, echoes) as served:
        response = await served.client.post("/v1/completions", json={"model": "m", **more})
        assert response.status_code == 400
        assert not served.fake.requests


async def test_the_prompt_comes_before_the_reply_if_the_client_wants_that(tmp_path: Path) -> None:
    async with gateway(tmp_path, echoes) as served:
        client = sdk(served).completions
        whole_reply = await client.create(model="m", prompt="bread: ", echo=True)
        assert whole_reply.choices[0].text == "bread: to bread: "
        stream = await client.create(model="m", prompt="bread: ", echo=True, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "bread: to bread: "
        assert "echo" not in served.fake.requests[0]


async def test_log_probabilities_stand_in_this_apis_lists(tmp_path: Path) -> None:
    async with gateway(tmp_path, echoes) as served:
        reply = await sdk(served).completions.create(model="m", prompt="ab", logprobs=1)
        lists = reply.choices[0].logprobs
        assert lists is not None
        assert (lists.tokens, lists.token_logprobs, lists.text_offset) == (["to", "ab"], [-0.5, -0.5], [0, 2])
        assert lists.top_logprobs == [{"to": -0.5}, {"ab": -0.5}]
