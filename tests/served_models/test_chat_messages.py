from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from equipoise.media.encode import read_data_url
from equipoise.served_models.chat_messages import (
    called_tools,
    content_text,
    first_choice,
    first_message,
    only_calls,
    refusal_text,
    reply_text,
    thought_text,
    to_openai,
)
from equipoise.types import Message


def test_a_conversation_keeps_its_order_and_its_pixels() -> None:
    picture = Image.new("RGB", (3, 2), (10, 20, 30))
    system, first, answer, last = to_openai(
        (Message("user", "Look.", (picture,)), Message("assistant", "I do."), Message("user", "Well?")), "Be brief."
    )
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in first["content"]] == ["image_url", "text"]
    sent = Image.open(io.BytesIO(read_data_url(first["content"][0]["image_url"]["url"])))
    assert (sent.size, sent.getpixel((0, 0))) == ((3, 2), (10, 20, 30))
    assert answer == {"role": "assistant", "content": "I do."}
    assert last == {"role": "user", "content": "Well?"}


@pytest.mark.parametrize("response", [None, [], "x", {}, {"choices": None}, {"choices": []}, {"choices": ["x"]}])
def test_a_response_without_choices_has_no_message(response: Any) -> None:
    assert first_choice(response) == {}
    assert first_message(response) is None


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"refusal": "No."}, "No."),
        ({"provider_specific_fields": {"refusal": "No."}}, "No."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": [{"type": "text", "text": "No.", "refusal": "No."}]}, None),
        *(({"refusal": value}, None) for value in ("", " \n", None, False, [], {"reason": "x"})),
        ({}, None),
    ],
)
def test_only_text_makes_a_refusal(message: dict[str, Any], text: str | None) -> None:
    assert refusal_text(message) == text


def test_the_text_of_parts_is_joined() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert content_text(parts) == "A\nB"
    assert content_text("C") == "C"
    assert content_text(None) == ""


@pytest.mark.parametrize(
    ("part", "thought"),
    [
        ({"type": "thinking", "thinking": "hm"}, "hm"),
        ({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "hm"),
        ({"type": "reasoning", "text": "hm"}, "hm"),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, "hm"),
        ({"type": "reasoning", "content": [{"type": "text", "text": "hm"}]}, "hm"),
        ({"type": "redacted_thinking", "data": "xyz"}, ""),
    ],
)
def test_thoughts_among_the_parts_are_no_text(part: dict[str, Any], thought: str) -> None:
    content = [part, {"type": "text", "text": "A dog."}]
    assert content_text(content) == "A dog."
    assert thought_text(content) == thought


@pytest.mark.parametrize(
    "content", [{"type": "text", "text": "A dog."}, ["A dog."], [{"type": "output_text", "text": "A dog."}]]
)
def test_parts_in_other_forms_are_read(content: Any) -> None:
    assert content_text(content) == "A dog."


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "audio": {"transcript": "A dog."}}, "A dog."),
        ({"content": "", "audio": {"transcript": "A dog."}}, "A dog."),
        ({"content": "A cat.", "audio": {"transcript": "A dog."}}, "A cat."),
        ({"content": None, "audio": {"transcript": None}}, ""),
        ({"content": None, "audio": "x"}, ""),
        ({}, ""),
    ],
)
def test_what_is_spoken_counts_where_nothing_is_written(message: dict[str, Any], text: str) -> None:
    assert reply_text(message) == text


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ({"tool_calls": [{"function": {"name": "look"}}, {"function": {"name": "say"}}]}, ("look", "say")),
        ({"tool_calls": [{"type": "custom", "name": "look"}]}, ("look",)),
        ({"tool_calls": [{"function": {}}]}, ("unnamed",)),
        ({"function_call": {"name": "look", "arguments": "{}"}}, ("look",)),
        *(({"tool_calls": value}, ()) for value in (None, [], "x", ["x"], {"a": 1})),
        ({}, ()),
    ],
)
def test_the_tools_that_a_message_calls(message: dict[str, Any], names: tuple[str, ...]) -> None:
    assert called_tools(message) == names


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "search", "arguments": {"q": "x"}}\n</tool_call>',
        "<tool_call>a</tool_call>\n<tool_call>b</tool_call>",
        '[TOOL_CALLS][{"name": "search", "arguments": {}}]',
        '<|python_tag|>brave_search.call(query="x")',
        "<function=search>{}</function>",
        "<\uff5ctool\u2581calls\u2581begin\uff5c>search",
    ],
)
def test_a_text_that_only_calls_tools_says_nothing(text: str) -> None:
    assert only_calls(text)
    assert not only_calls(f"I will look it up. {text}")


def test_a_call_before_words_is_beside_them() -> None:
    assert not only_calls("<tool_call>a</tool_call> A brown dog.")
    assert not only_calls("")


def test_parts_in_the_field_for_refusals_are_read() -> None:
    assert refusal_text({"refusal": [{"type": "refusal", "refusal": "No."}]}) == "No."
    assert refusal_text({"refusal": {"type": "text", "text": "No."}}) == "No."
    assert refusal_text({"refusal": [{"type": "refusal", "refusal": ""}, 3]}) is None


@pytest.mark.parametrize("nothing", ["null", "None", " undefined ", "\u200b", "N/A", "", "false"])
def test_a_word_for_nothing_in_the_field_for_refusals_is_no_refusal(nothing: str) -> None:
    assert refusal_text({"refusal": nothing, "content": "Hello."}) is None
    assert refusal_text({"refusal": f"{nothing} I cannot."}) == f"{nothing} I cannot."


def test_text_one_level_below_its_part() -> None:
    assert content_text([{"type": "text", "text": {"value": "A dog.", "annotations": []}}]) == "A dog."
    assert content_text([{"type": "text", "text": {"value": 3}}]) == ""


@pytest.mark.parametrize("value", ["No", "0", "[]", "{ }", "false"])
def test_a_word_for_nothing_is_no_refusal(value: str) -> None:
    assert refusal_text({"content": "A dog.", "refusal": value}) is None
    assert refusal_text({"content": "A dog.", "refusal": {"reason": "policy", "message": value}}) is None
    assert refusal_text({"refusal": {"reason": "policy", "message": "It is not allowed."}}) == "It is not allowed."
