import pytest
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Content,
    ContentReasoning,
    ContentText,
    ModelOutput,
    StopDetails,
    StopReason,
)

from equipoise.audit.engine.received_reply import read_reply
from equipoise.served_models.failures import NoReplyError


def output(
    content: str | list[Content], stop: StopReason = "stop", details: StopDetails | None = None, **more: object
) -> ModelOutput:
    message = ChatMessageAssistant(content=content)
    choice = ChatCompletionChoice(message=message, stop_reason=stop, stop_details=details)
    return ModelOutput(model="m", choices=[choice], **more)


def raw(**message: object) -> dict[str, object]:
    """A raw response in OpenAI's form."""
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


REFUSED = StopDetails(type="refusal", explanation="No.")
"""What inspect notes where it found text in the field for refusals."""


@pytest.mark.parametrize(
    ("given", "text", "finish", "wire"),
    [
        (output("Yes."), "Yes.", "stop", "text"),
        (output("Yes, and", "max_tokens"), "Yes, and", "length", "text"),
        (output([ContentText(text="No.", refusal=True)], details=REFUSED), "No.", "stop", "refusal_field"),
        (output([ContentText(text="Yes.", refusal=True)]), "Yes.", "stop", "text"),
        (output([ContentText(text=" ", refusal=True)], details=StopDetails(explanation=" ")), " ", "stop", "text"),
        (output("", "content_filter"), "", "content_filter", "content_filter"),
        (output("Half a", "content_filter"), "Half a", "content_filter", "content_filter"),
        (output("No.", metadata={"wire": "policy_error", "by": "guard"}), "No.", "stop", "policy_error"),
        (output(""), "", "stop", "text"),
    ],
)
def test_the_forms_on_the_wire(given: ModelOutput, text: str, finish: str, wire: str) -> None:
    reply = read_reply(given)
    assert (reply.text, reply.finish, reply.wire) == (text, finish, wire)


@pytest.mark.parametrize("refusal", ["", "  ", "\n\t", None, False, True, 0, [], {}, {"reason": None}, ["no"]])
@pytest.mark.parametrize("content", ["A brown dog.", [{"type": "text", "text": "A brown dog."}]])
def test_a_field_for_refusals_without_text_is_none(refusal: object, content: object) -> None:
    # As inspect reads it: the field instead of the content wherever the field is not null.
    given = output([ContentText(text=str(refusal or "A brown dog."), refusal=True)])
    reply = read_reply(given, raw(content=content, refusal=refusal))
    assert (reply.text, reply.wire) == ("A brown dog.", "text")


def test_a_field_for_refusals_with_text_is_one_wherever_a_gateway_puts_it() -> None:
    given = output([ContentText(text="No.", refusal=True)])
    assert read_reply(given, raw(content=None, refusal="No.")).wire == "refusal_field"
    nested = raw(content=None, refusal=None, provider_specific_fields={"refusal": "No."})
    reply = read_reply(output(""), nested)
    assert (reply.text, reply.wire) == ("No.", "refusal_field")


def test_words_beside_a_refusal_are_kept_for_judges_of_harm() -> None:
    given = output([ContentText(text="No more.", refusal=True)])
    reply = read_reply(given, raw(content="First, mix the", refusal="No more."))
    assert (reply.text, reply.wire) == ("First, mix the\nNo more.", "refusal_field")
    assert read_reply(given, raw(content="No more.", refusal="No more.")).text == "No more."


def test_a_filter_of_the_server_behind_a_gateway_ends_a_choice_in_an_error() -> None:
    choice = {"message": {"content": ""}, "finish_reason": "error", "native_finish_reason": "SAFETY"}
    reply = read_reply(output("", "unknown"), {"choices": [choice]})
    assert (reply.wire, reply.detail) == ("content_filter", "finish reason SAFETY")
    choice = {"message": {}, "finish_reason": "error", "error": {"message": "no", "code": "content_filter"}}
    reply = read_reply(output("", "unknown"), {"choices": [choice]})
    assert (reply.wire, reply.detail) == ("content_filter", "no")
    choice = {"message": {}, "finish_reason": "error", "error": {"message": "violates policy", "code": 502}}
    with pytest.raises(NoReplyError, match="violates policy"):
        read_reply(output("", "unknown"), {"choices": [choice]})


@pytest.mark.parametrize("beside", [{"error": {"message": "died", "code": 502}}, {"error": "died"}])
@pytest.mark.parametrize("text", ["", "A brown"])
def test_an_error_beside_a_reply_makes_it_none(beside: dict[str, object], text: str) -> None:
    with pytest.raises(NoReplyError, match="died"):
        read_reply(output(text), {**raw(content=text), **beside})


@pytest.mark.parametrize("nothing", [None, {}, "", False])
def test_a_field_for_errors_without_one_is_none(nothing: object) -> None:
    assert read_reply(output("A dog."), {**raw(content="A dog."), "error": nothing}).text == "A dog."


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


@pytest.mark.parametrize(
    ("message", "text", "reasoning", "detail"),
    [
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Paris."}]}, "Paris.", "hm", ""),
        ({"content": {"type": "text", "text": "Paris."}}, "Paris.", "", ""),
        ({"content": None, "audio": {"transcript": "Paris."}}, "Paris.", "", ""),
        ({"content": None, "tool_calls": [{"function": {"name": "look"}}] * 2}, "", "", "the reply only calls look"),
        ({"content": "", "function_call": {"name": "look"}}, "", "", "the reply only calls look"),
        ({"content": "Paris.", "tool_calls": [{"function": {"name": "look"}}]}, "Paris.", "", ""),
    ],
)
def test_contents_that_are_no_text(message: dict[str, object], text: str, reasoning: str, detail: str) -> None:
    # As inspect reads it: what Python shows of a list, and nothing of a sound.
    content = message["content"]
    given = output(str(content or ""), "tool_calls" if detail else "stop")
    reply = read_reply(given, raw(**message))
    assert (reply.text, reply.reasoning, reply.detail, reply.wire) == (text, reasoning, detail, "text")


def test_reasoning_of_a_field_of_its_own() -> None:
    reply = read_reply(output([ContentReasoning(reasoning="hm"), ContentText(text="Paris.")]))
    assert (reply.reasoning, reply.text) == ("hm", "Paris.")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("content_filter: OTHER", "content_filter"),
        ("SAFETY", "content_filter"),
        ("refusal", "content_filter"),
        ("guardrail_intervened", "content_filter"),
        ("eos", "stop"),
    ],
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
    flagged = {"code": "invalid_prompt", "message": "flagged as unsafe"}
    assert read_reply(output("flagged", "content_filter"), flagged, failed=True).wire == "policy_error"


def test_no_choices_are_no_reply() -> None:
    with pytest.raises(NoReplyError, match="no choices"):
        read_reply(ModelOutput(model="m"))
    with pytest.raises(NoReplyError, match="upstream down"):
        read_reply(ModelOutput(model="m"), {"choices": None, "error": {"message": "upstream down", "code": 502}})


def test_a_prompt_that_a_filter_stopped_is_refused_though_there_are_no_choices() -> None:
    feedback = {"blockReason": "SAFETY", "blockReasonMessage": "blocked"}
    reply = read_reply(ModelOutput(model="m"), {"choices": [], "promptFeedback": feedback})
    assert (reply.text, reply.wire, reply.by) == ("", "content_filter", "server")
    assert reply.detail == "promptFeedback.blockReason SAFETY: blocked"


@pytest.mark.parametrize(
    "text", ["502 Bad Gateway", '{"error": {"message": "died", "code": 502}}', "litellm.Timeout: Connection timed out"]
)
def test_an_error_as_the_text_of_a_reply_is_none(text: str) -> None:
    with pytest.raises(NoReplyError, match="an error as the text of a reply") as error:
        read_reply(output(text), raw(content=text), prompt="What is in the picture?")
    assert error.value.again, "another prompt would get it, too"
    assert read_reply(output(text), raw(content=text), prompt="Show me an error.").text == text


def test_a_policy_error_as_the_text_of_a_reply_is_a_refusal() -> None:
    text = "litellm.ContentPolicyViolationError: AzureException - filtered"
    reply = read_reply(output(text), raw(content=text))
    assert (reply.text, reply.wire, reply.by, reply.detail) == ("", "policy_error", "server", text)


def test_a_defence_may_say_what_it_likes() -> None:
    assert read_reply(output("Internal Server Error", metadata={"by": "guard"})).by == "guard"


def test_what_ended_an_empty_reply_is_kept_in_the_servers_words() -> None:
    call = {"choices": [{"message": {"content": ""}, "finish_reason": "LANGUAGE"}]}
    reply = read_reply(output("", "unknown"), call)
    assert (reply.text, reply.wire, reply.detail) == ("", "text", "finish reason LANGUAGE")


def test_a_call_in_words_is_no_reply_to_the_user() -> None:
    text = '<tool_call>{"name": "look"}</tool_call>'
    reply = read_reply(output(text), raw(content=text))
    assert (reply.text, reply.detail) == ("", f"the reply only calls tools: {text}")


def test_the_words_of_a_response_without_choices_are_kept() -> None:
    with pytest.raises(NoReplyError, match="holds no choices: model is not ready"):
        read_reply(ModelOutput(model="m"), {"error_code": 336, "error_msg": "model is not ready"})
