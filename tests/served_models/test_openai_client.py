"""The client over real HTTP: headers and fields arrive, and an unsupported parameter costs one request in all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from equipoise.served_models.endpoint import ServedEndpoint
from tests.judges.fakes import Answer, Server, fails, says

openai = pytest.importorskip("openai", reason="the extra `served` is not installed")


def ask(endpoint: ServedEndpoint, count: int = 1) -> Sequence[str]:
    from equipoise.served_models.openai_client import ServedClient

    async def run() -> list[str]:
        async with ServedClient(endpoint, timeout=5.0) as client:
            replies = []
            for _ in range(count):
                completion = await client.chat.completions.create(
                    model=endpoint.model,
                    messages=[{"role": "user", "content": "Hi"}],
                    temperature=0,
                    max_tokens=7,
                )
                replies.append(completion.choices[0].message.content)
            return replies

    return asyncio.run(run())


def reasoning_model(body: dict[str, Any]) -> Answer:
    """Takes neither `max_tokens` nor a temperature, and names one of them at a time."""
    if "max_tokens" in body:
        return fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    if "temperature" in body:
        return fails(400, "Unsupported value: 'temperature' does not support 0 with this model.")
    return says("Hello.")


def test_headers_and_fields_arrive() -> None:
    with Server(lambda _: says("Hello.")) as server:
        endpoint = ServedEndpoint(
            server.url, "m", api_key="k", headers={"X-Team": "safety"}, extra_body={"top_k": 1}, temperature=None
        )
        assert ask(endpoint) == ["Hello."]
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["x-team"] == "safety"
    assert headers["authorization"] == "Bearer k"
    assert server.requests[0] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 7,
        "top_k": 1,
    }


def test_unsupported_parameters_are_learned_once() -> None:
    with Server(reasoning_model) as server:
        endpoint = ServedEndpoint(server.url, "m")
        assert ask(endpoint, count=2) + ask(endpoint, count=1) == ["Hello."] * 3
    assert len(server.requests) == 2 + 3
    assert all(body["max_completion_tokens"] == 7 for body in server.requests[1:])
    assert len(endpoint.parameters.notes) == 2


@pytest.mark.parametrize("status", [400, 429, 500])
def test_no_other_error_is_sent_again(status: int) -> None:
    with Server(lambda _: fails(status, "no")) as server, pytest.raises(openai.APIStatusError):
        ask(ServedEndpoint(server.url, "m"))
    assert len(server.requests) == 1


def test_a_server_that_refuses_every_form_ends_in_its_error() -> None:
    refusing = Server(lambda _: fails(400, "max_tokens, max_completion_tokens and temperature are unsupported"))
    with refusing as server, pytest.raises(openai.BadRequestError):
        ask(ServedEndpoint(server.url, "m"))
    assert len(server.requests) <= 6


class Fields:
    """An object with these attributes, as OpenAI's client makes of JSON without checking it."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


def flattened(**message: Any) -> Fields:
    from equipoise.served_models.openai_client import flatten_contents

    response = Fields(choices=[Fields(message=Fields(**message))])
    assert flatten_contents(response) is response
    flat: Fields = response.choices[0].message  # type: ignore[attr-defined]
    return flat


def test_a_content_of_parts_becomes_text_with_its_thoughts_apart() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    message = flattened(content=parts, refusal=None)
    assert vars(message) == {"content": "A\nB", "refusal": None, "reasoning_content": "hm"}


def test_a_refusal_among_the_parts_moves_to_its_field() -> None:
    message = flattened(content=[{"type": "refusal", "refusal": "No."}], refusal=None)
    assert vars(message) == {"content": "", "refusal": "No."}


@pytest.mark.parametrize("content", ["A dog.", "", None])
def test_a_content_of_text_is_left_as_it_is(content: str | None) -> None:
    assert vars(flattened(content=content, refusal="")) == {"content": content, "refusal": ""}


@pytest.mark.parametrize(
    "response", [None, "x", [], Fields(), Fields(choices=None), Fields(choices=[Fields(message=None)])]
)
def test_other_responses_are_left_as_they_are(response: Any) -> None:
    from equipoise.served_models.openai_client import flatten_contents

    assert flatten_contents(response) is response


@pytest.mark.parametrize("secret", ["sk-1234567890", "team-token-77"])
def test_a_secret_that_a_server_quotes_is_hidden_and_a_word_is_not(secret: str) -> None:
    from equipoise.served_models.openai_client import ServedClient

    settings = {"api_key": secret} if secret.startswith("sk") else {"headers": {"X-Team": secret}}
    with Server(lambda _: says(f"You sent {secret}, for safety.")) as server:
        assert ask(ServedEndpoint(server.url, "m", **settings)) == ["You sent ***, for safety."]
        words = ServedEndpoint(server.url, "m", headers={"X-Team": "safety"})
        assert ask(words) == [f"You sent {secret}, for safety."]

    async def refused(endpoint: ServedEndpoint) -> str:
        async with ServedClient(endpoint, timeout=5.0) as client:
            with pytest.raises(openai.APIStatusError) as raised:
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
            return f"{raised.value} {raised.value.response.text}"

    with Server(lambda _: fails(400, f"blocked for Bearer {secret}")) as server:
        text = asyncio.run(refused(ServedEndpoint(server.url, "m", **settings)))
    assert "blocked for Bearer ***" in text
    assert secret not in text
