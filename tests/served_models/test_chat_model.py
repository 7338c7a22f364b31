"""A served model as a `ChatModel`: what it sends, in which order replies come, and that failures stay failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from equipoise.errors import ModelError
from equipoise.judges.provider_signals import provider_verdict
from equipoise.served_models.chat_model import ServedChatModel
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Message, Prompt
from tests.audit.scripted_server import ReceivedRequest, ScriptedServer, empty, fails, refuses, says

pytest.importorskip("openai")


def model(server: ScriptedServer, **more: object) -> ServedChatModel:
    return ServedChatModel(ServedEndpoint(server.url, "scripted"), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("connections", [1, 4])
def test_replies_come_in_the_order_of_the_prompts(connections: int) -> None:
    prompts = [Prompt.ask(f"number {i}") for i in range(9)]
    with ScriptedServer(lambda request: says(request.text)) as server:
        exchanges = model(server, connections=connections).generate(prompts, max_new_tokens=3)
        assert server.most_at_once <= connections
    assert [exchange.reply for exchange in exchanges] == [prompt.text for prompt in prompts]
    assert [exchange.prompt for exchange in exchanges] == prompts
    assert {request.body["max_tokens"] for request in server.requests} == {3}


def test_a_failure_is_an_exchange_with_its_error() -> None:
    def rule(request: ReceivedRequest):
        return {"bad": fails(400, "bad words"), "none": empty()}.get(request.text, says("Fine."))

    with ScriptedServer(rule) as server:
        exchanges = model(server).generate([Prompt.ask("bad"), Prompt.ask("none"), Prompt.ask("x")])
    assert [exchange.finish for exchange in exchanges] == ["error", "error", "stop"]
    assert exchanges[0].error
    assert "bad words" in exchanges[0].error
    assert exchanges[2].reply == "Fine."


def test_a_refusal_in_a_field_of_its_own_is_the_reply() -> None:
    with ScriptedServer(lambda request: refuses("I cannot do that.")) as server:
        (exchange,) = model(server).generate([Prompt.ask("x")])
    assert exchange.reply == "I cannot do that."


def test_turns_system_text_and_the_beginning_of_the_reply_are_sent() -> None:
    prompt = Prompt((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), system="S")
    with ScriptedServer(lambda request: says("d", "length")) as server:
        (exchange,) = model(server).generate([replace(prompt, prefill="Sure:")])
    sent = [(message["role"], message["content"]) for message in server.requests[0].body["messages"]]
    assert sent == [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "Sure:")]
    assert exchange.finish == "length"


def test_messages_may_be_changed_before_they_are_sent() -> None:
    with ScriptedServer(lambda request: says(request.system or "")) as server:
        changed = model(server, change=lambda messages: [{"role": "system", "content": "Kind."}, *messages])
        assert changed.generate([Prompt.ask("x")])[0].reply == "Kind."


def test_no_prompts_are_no_requests() -> None:
    with ScriptedServer(lambda request: says("x")) as server:
        assert model(server).generate([]) == []
        assert server.requests == []


def test_a_refusal_has_the_form_in_which_it_came() -> None:
    """As in an audit: a filter's end and an error that names a policy are refusals, and no failures."""

    def rule(request: ReceivedRequest):
        error = fails(400, "The response was filtered", code="content_filter")
        return {"filter": says("", "content_filter"), "error": error}.get(request.text, refuses("No."))

    with ScriptedServer(rule) as server:
        exchanges = model(server).generate([Prompt.ask(text) for text in ("filter", "error", "field")])
    assert [exchange.wire for exchange in exchanges] == ["content_filter", "policy_error", "refusal_field"]
    assert [exchange.error for exchange in exchanges] == [None] * 3
    verdicts = [provider_verdict(exchange) for exchange in exchanges]
    assert [verdict and verdict.refusal for verdict in verdicts] == ["full"] * 3


def test_no_secret_of_the_endpoint_is_in_an_error() -> None:
    with ScriptedServer(lambda request: fails(400, "Invalid key, received Bearer sk-SECRET-1234")) as server:
        endpoint = ServedEndpoint(server.url, "scripted", api_key="sk-SECRET-1234")
        (exchange,) = ServedChatModel(endpoint).generate([Prompt.ask("x")])
    assert exchange.error
    assert "SECRET" not in exchange.error
    assert "***" in exchange.error


def test_a_busy_server_is_asked_again() -> None:
    def rule(request: ReceivedRequest):
        return fails(429, "slow down") if server.counts[request.text] < 3 else says("Fine.")

    with ScriptedServer(rule) as server:
        (exchange,) = model(server, pause=0.001).generate([Prompt.ask("x")])
        assert len(server.requests) == 3
    assert exchange.reply == "Fine."


def test_a_refused_key_is_shown_to_the_server_once() -> None:
    with ScriptedServer(lambda request: fails(401, "no such key")) as server:
        exchanges = model(server).generate([Prompt.ask(str(number)) for number in range(5)])
        assert len(server.requests) == 1
    assert all("no such key" in (exchange.error or "") for exchange in exchanges)


def test_that_nobody_replies_is_an_error_where_replies_are_needed() -> None:
    with ScriptedServer(lambda request: fails(400, "too long")) as server:
        with pytest.raises(ModelError, match="expected scripted to reply"):
            model(server, must_reply=True).generate([Prompt.ask("x")])
        assert model(server, must_reply=True).generate([]) == []
