"""What a model's context leaves for a reply, counted as the template writes the prompt."""

from __future__ import annotations

import pytest

from equipoise.errors import ModelError
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.model_server.prompt_room import LONGEST_TOKEN, PromptRoom
from equipoise.model_server.reply_request import ReplyRequest
from equipoise.types import Prompt
from tests.model_server.models import EchoModel


class TemplateModel(EchoModel):
    """A model whose template adds three words, and refuses a system text."""

    def render(self, prompt: Prompt) -> str:
        if prompt.system is not None:
            raise ModelError("expected no system text")
        return f"user says: {prompt.text} assistant:"


def request(text: str, tokens: int = 8, system: str | None = None) -> ReplyRequest:
    return ReplyRequest(Prompt.ask(text, system=system), tokens, (), stream=False, include_usage=False)


def test_the_template_counts_and_the_reply_gets_what_is_left() -> None:
    room = PromptRoom(TemplateModel(context=20))
    assert room.fitted(request("a b")).prompt_tokens == 5
    assert room.fitted(request("a b")).max_new_tokens == 8
    assert room.fitted(request("a " * 16)).max_new_tokens == 1


@pytest.mark.parametrize("text", ["a " * 17, "a" * (LONGEST_TOKEN * 20 + 1)])
def test_no_room_for_a_reply_is_an_error(text: str) -> None:
    with pytest.raises(RequestProblem, match="room for a reply in this model's context of 20 tokens") as raised:
        PromptRoom(TemplateModel(context=20)).fitted(request(text))
    assert raised.value.code == "context_length_exceeded"


def test_a_text_that_cannot_fit_is_not_counted() -> None:
    model = TemplateModel(context=20)
    model.processor.tokenizer = lambda text, add_special_tokens: {"input_ids": [0] if len(text) < 99 else 1 / 0}
    with pytest.raises(RequestProblem):
        PromptRoom(model).fitted(request("a" * 64 * 21))


def test_what_the_template_refuses_is_the_requests_fault() -> None:
    with pytest.raises(RequestProblem, match="no system text") as raised:
        PromptRoom(TemplateModel()).fitted(request("a", system="b"))
    assert (raised.value.status, raised.value.param) == (400, "messages")


def test_a_system_text_that_is_missing_is_no_token() -> None:
    model = EchoModel()
    model.processor.tokenizer = lambda text, add_special_tokens: {"input_ids": list(text)}
    assert PromptRoom(model).fitted(request("ab")).prompt_tokens == 2
