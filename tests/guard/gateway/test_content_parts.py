"""No word of a request or a reply is lost on the way to the guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.gateway.content_parts import ChatRequest, parse_request
from equipoise.guard.gateway.dialects import WORDLESS
from equipoise.guard.gateway.reply_choices import parse_reply

NAMES = st.sampled_from(
    ["content", "name", "tool_calls", "refusal", "reasoning", "function_call", "odd", "a/b", "audio"]
)
TEXT = st.text("abc 🙂é\n", min_size=1, max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "url", "x", "y"]), inner, max_size=3)
    ),
    max_leaves=8,
)
PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.builds(lambda text: {"type": "image_url", "image_url": {"url": text}}, TEXT),
    st.builds(lambda text: {"type": "input_audio", "input_audio": {"data": text}}, TEXT),
    JSON,
)
MESSAGE = st.builds(
    lambda role, content, more: {"role": role, "content": content} | more,
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", "odd"]),
    TEXT | st.lists(PART, max_size=3) | st.none() | JSON,
    st.dictionaries(NAMES.filter(lambda name: name != "content"), JSON, max_size=2),
)


def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every word with its path, but those of fields that hold none for people."""
    if isinstance(value, str):
        if value:
            yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in WORDLESS:
                yield from leaves(item, f"{path}/{name.replace('/', '~1')}")
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from leaves(item, f"{path}/{at}")


@given(st.lists(MESSAGE, min_size=1, max_size=4))
def test_every_word_of_a_request_is_in_a_part(messages: list[dict[str, Any]]) -> None:
    parsed = parse_request({"messages": messages})
    places = [part.path for part in parsed.parts]
    assert len(places) == len(set(places))
    for path, word in leaves(messages, "messages"):
        covering = [part for part in parsed.parts if path == part.path or path.startswith(f"{part.path}/")]
        assert len(covering) == 1, path
        (part,) = covering
        assert part.kind in ("unsupported", "file", "picture") or word in part.text


@given(st.lists(MESSAGE, min_size=1, max_size=4))
def test_every_word_of_a_reply_is_judged_or_unsupported(messages: list[dict[str, Any]]) -> None:
    choices = [{"index": at, "message": message, "finish_reason": "stop"} for at, message in enumerate(messages)]
    for choice, message in zip(parse_reply({"choices": choices}), messages, strict=True):
        for path, word in leaves(message, f"choices/{choice.index}/message"):
            part = next(
                candidate
                for candidate in choice.parts
                if path == candidate.path or path.startswith(f"{candidate.path}/")
            )
            assert part.kind in ("unsupported", "file", "picture") or word in choice.text


def test_the_evidence_is_the_last_question_with_what_came_before() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "a result"},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, {"type": "text", "text": "Really?"}]},
    ]
    parsed = parse_request({"messages": messages, "tools": [{"function": {"description": "does it"}}]})
    evidence = parsed.guard_input("A SIGN", "reply")
    assert evidence.question == "And this?\nReally?"
    assert evidence.context == ("Hello", "f\n{}", "a result")
    assert (evidence.picture_text, evidence.response) == ("A SIGN", "reply")
    assert {part.path: part.kind for part in parsed.parts}["tools"] == "setting"


def test_a_request_without_a_user_asks_nothing() -> None:
    parsed = parse_request({"messages": [{"role": "assistant", "content": "Hi"}]})
    assert isinstance(parsed, ChatRequest)
    assert (parsed.last_user, parsed.guard_input().question, parsed.guard_input().context) == (-1, "", ("Hi",))


@pytest.mark.parametrize(
    "body",
    [{}, {"messages": []}, {"messages": "hi"}, {"messages": ["hi"]}, {"messages": [{}]}, {"messages": [{"role": 1}]}],
)
def test_what_is_no_request_is_an_error(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_request(body)
