import pytest
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Content,
    ContentReasoning,
    ContentText,
    ModelOutput,
    StopReason,
)

from equipoise.audit.engine.failures import NoReplyError
from equipoise.audit.engine.received_reply import read_reply


def output(content: str | list[Content], stop: StopReason = "stop", **more: object) -> ModelOutput:
    message = ChatMessageAssistant(content=content)
    return ModelOutput(model="m", choices=[ChatCompletionChoice(message=message, stop_reason=stop)], **more)


@pytest.mark.parametrize(
    ("given", "text", "finish", "wire"),
    [
        (output("Yes."), "Yes.", "stop", "text"),
        (output("Yes, and", "max_tokens"), "Yes, and", "length", "text"),
        (output([ContentText(text="No.", refusal=True)]), "No.", "stop", "refusal_field"),
        (output("", "content_filter"), "", "content_filter", "content_filter"),
        (output("Half a", "content_filter"), "Half a", "content_filter", "content_filter"),
        (output("No.", metadata={"wire": "policy_error", "by": "guard"}), "No.", "stop", "policy_error"),
        (output(""), "", "stop", "text"),
    ],
)
def test_the_forms_on_the_wire(given: ModelOutput, text: str, finish: str, wire: str) -> None:
    reply = read_reply(given)
    assert (reply.text, reply.finish, reply.wire) == (text, finish, wire)


def test_who_spoke_last_is_kept() -> None:
    assert read_reply(output("No.", metadata={"by": "guard"})).by == "guard"
    assert read_reply(output("No.")).by == "model"


@pytest.mark.parametrize(
    ("content", "stop", "reasoning", "text"),
    [
        ("<think>should I refuse? I can't.</think>\n\nParis.", "stop", "should I refuse? I can't.", "Paris."),
        ("should I?</think>Paris.", "stop", "should I?", "Paris."),
        ("<think>on and on", "max_tokens", "on and on", ""),
        ("The tag <think> is for thoughts.", "stop", "", "The tag <think> is for thoughts."),
    ],
)
def test_reasoning_is_kept_apart(content: str, stop: StopReason, reasoning: str, text: str) -> None:
    reply = read_reply(output(content, stop))
    assert (reply.reasoning, reply.text) == (reasoning, text)


def test_reasoning_of_a_field_of_its_own() -> None:
    reply = read_reply(output([ContentReasoning(reasoning="hm"), ContentText(text="Paris.")]))
    assert (reply.reasoning, reply.text) == ("hm", "Paris.")


@pytest.mark.parametrize(
    ("reason", "finish"), [("content_filter: OTHER", "content_filter"), ("SAFETY", "content_filter"), ("eos", "stop")]
)
def test_servers_with_a_spelling_of_their_own(reason: str, finish: str) -> None:
    assert read_reply(output("x", "unknown"), {"choices": [{"finish_reason": reason}]}).finish == finish


@pytest.mark.parametrize("call", [{"choices": [{"finish_reason": None}]}, {"choices": [{"finish_reason": "error"}]}])
def test_a_reply_without_an_end_is_none(call: dict[str, object]) -> None:
    with pytest.raises(NoReplyError):
        read_reply(output("Sure, the first", "unknown"), call)


def test_an_error_that_a_provider_turned_into_words_is_no_reply() -> None:
    with pytest.raises(NoReplyError, match="too long"):
        read_reply(output("too long", "model_length"), {"code": "context_length_exceeded"}, failed=True)
    with pytest.raises(NoReplyError, match="IP"):
        read_reply(output("Your IP is blocked", "content_filter"), {"message": "Your IP is blocked"}, failed=True)
    assert (
        read_reply(output("flagged", "content_filter"), {"code": "invalid_prompt"}, failed=True).wire == "policy_error"
    )


def test_no_choices_are_no_reply() -> None:
    with pytest.raises(NoReplyError, match="no choices"):
        read_reply(ModelOutput(model="m"))
