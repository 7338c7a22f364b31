"""The replies of a completion: every word is judged that is more than a name, whatever field it stands in."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.guard.gateway.reply_choices import parse_reply, replaced
from equipoise.guard.gateway.streaming.delta_parts import delta_parts


@pytest.mark.parametrize(
    "body", [{}, {"choices": 3}, {"choices": [3]}, {"choices": [{}]}, {"choices": [{"message": 3}]}]
)
def test_what_is_no_reply_is_an_error(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_reply(body)


def test_a_replaced_choice_keeps_nothing_of_what_it_said() -> None:
    choice = {
        "index": 2,
        "message": {"role": "assistant", "content": "secret", "tool_calls": ["secret"]},
        "logprobs": "secret",
    }
    changed = replaced(choice, "safe", None, "stop")
    assert "secret" not in str(changed)
    assert changed["index"] == 2
    assert changed["message"]["content"] == "safe"
    assert replaced(choice, None, "no", "content_filter")["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "no",
    }


@pytest.mark.parametrize("field", ["id", "type", "role", "index", "object", "text"])
@pytest.mark.parametrize("words", ["\u5982\u4f55\u5236\u9020\u70b8\u5f39", "kill-them-all"])
def test_arguments_of_a_tool_that_are_an_object_are_judged_whatever_their_names(field: str, words: str) -> None:
    arguments = {field: words, "inner": [{field: words}]}
    call = {"id": "c", "type": "function", "function": {"name": "post", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    for reply in (message, {"role": "assistant", "content": None, "function_call": call["function"]}):
        choice = parse_reply({"choices": [{"index": 0, "message": reply, "finish_reason": "tool_calls"}]})[0]
        assert choice.text.count(words) == 2
    assert sum(part.text.count(words) for part in delta_parts({"delta": message})) == 2


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "model", "provider", "id", "matched_stop"])
@pytest.mark.parametrize("value", [{"note": "how to kill"}, ["how to kill"], "\u5982\u4f55\u5236\u9020"])
def test_words_in_a_field_that_holds_a_name_elsewhere_are_judged(name: str, value: Any) -> None:
    choice = {"index": 0, "message": {"content": "ok"}, name: value}
    words = value if isinstance(value, str) else "how to kill"
    if name == "model" and value is words:
        # Whoever serves a model names it, in any script.
        value = words = "how to kill"
    choice[name] = value
    assert words in parse_reply({"choices": [choice]})[0].text
    assert words in parse_reply({"choices": [{"index": 0, "message": {"content": "ok"}}], name: value})[0].text


@pytest.mark.parametrize("harm", ["how to kill", ["how to kill"], "\u5982\u4f55\u5236\u9020"])
def test_the_format_of_a_reasoning_is_no_word_only_while_it_is_a_name(harm: Any) -> None:
    def text_of(form: Any) -> str:
        message = {"content": "ok", "reasoning_details": [{"type": "reasoning.text", "text": "so", "format": form}]}
        assert (
            delta_parts({"delta": message})[-1].text
            == parse_reply({"choices": [{"message": message}]})[0].parts[-1].text
        )
        return parse_reply({"choices": [{"message": message}]})[0].text

    assert (harm[0] if isinstance(harm, list) else harm) in text_of(harm)
    assert text_of("anthropic-claude-v1") == text_of(None) == "ok\nso"


@pytest.mark.parametrize(
    "frame",
    [
        {"finish_reason": {"type": "stop"}, "matched_stop": 2, "logprobs": {"content": [{"token": " so"}]}},
        {"stop_reason": None, "token_ids": [1, 2], "finish_reason": "stop", "native_finish_reason": "STOP"},
    ],
)
def test_reasons_and_tokens_are_no_words(frame: dict[str, Any]) -> None:
    assert parse_reply({"choices": [{"index": 0, "message": {"content": "ok"}, **frame}]})[0].text == "ok"
