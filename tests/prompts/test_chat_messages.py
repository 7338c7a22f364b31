"""Policies on the messages of a chat request: what is added, and that nothing else changes."""

from __future__ import annotations

import copy

from equipoise.prompts.chat_messages import apply_to_messages
from equipoise.prompts.exemplars import Exemplar, ExemplarPool
from equipoise.prompts.policy import compose, contextual, few_shot, interactive, system

PICTURE = {"type": "image_url", "image_url": {"url": "data:x"}}
TALK = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello.", "name": "bot"},
    {"role": "user", "content": "Why {request}?", "name": "me"},
]
POOL = ExemplarPool("pool", (Exemplar("A?", "a"), Exemplar("B?", "No.", "refuse")), "0")


def test_a_system_text_goes_in_front_of_the_clients_own() -> None:
    policy = system("Be kind.")
    assert apply_to_messages(policy, TALK) == [{"role": "system", "content": "Be kind."}, *TALK]
    for role in ("system", "developer"):
        own = [{"role": role, "content": "Be brief."}, *TALK]
        assert apply_to_messages(policy, own)[0] == {"role": role, "content": "Be kind.\n\nBe brief."}
    parts = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, *TALK]
    assert [part["text"] for part in apply_to_messages(policy, parts)[0]["content"]] == ["Be kind.", "Be brief."]


def test_a_system_text_may_begin_the_first_user_message() -> None:
    result = apply_to_messages(system("Be kind.", "user"), TALK)
    assert result[0]["content"] == "Be kind.\n\nHi."
    assert result[1:] == TALK[1:]
    assert apply_to_messages(system("Be kind.", "user"), TALK[1:2]) == TALK[1:2]


def test_a_frame_is_put_around_the_last_user_message() -> None:
    result = apply_to_messages(contextual("<< {request} >>"), TALK)
    assert result[2] == {"role": "user", "content": "<< Why {request}? >>", "name": "me"}
    assert result[:2] == TALK[:2]
    tool = [*TALK, {"role": "tool", "content": "42", "tool_call_id": "1"}]
    assert apply_to_messages(contextual("<< {request} >>"), tool)[3] == tool[3]


def test_parts_are_framed_by_parts_of_their_own_and_none_is_changed() -> None:
    content = [PICTURE, {"type": "text", "text": "Why?"}, {"type": "file", "file": {"id": "1"}}]
    (message,) = apply_to_messages(contextual("T {request}", "P {request}!"), [{"role": "user", "content": content}])
    assert message["content"] == [{"type": "text", "text": "P "}, *content, {"type": "text", "text": "!"}]
    words = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    (message,) = apply_to_messages(contextual("T {request}", "P {request}!"), words)
    assert message["content"][0]["text"] == "T "


def test_exemplars_stand_behind_the_instructions() -> None:
    messages = [{"role": "developer", "content": "D"}, *TALK]
    result = apply_to_messages(few_shot(2, POOL), messages)
    assert [message["role"] for message in result] == [
        "developer",
        *["user", "assistant"] * 2,
        *["user", "assistant", "user"],
    ]
    assert {message["content"] for message in result[1:5]} == {"A?", "a", "B?", "No."}
    assert result[-3:] == TALK


def test_a_composition_is_applied_in_order_and_the_request_itself_stays_as_it_is() -> None:
    before = copy.deepcopy(TALK)
    policy = compose(contextual("1 {request}"), contextual("2 {request}"), system("S"), interactive(1, "Again?"))
    result = apply_to_messages(policy, TALK)
    assert result[-1]["content"] == "2 1 Why {request}?"
    assert result[0]["content"] == "S"
    assert before == TALK


def test_odd_messages_do_not_stop_it() -> None:
    policy = compose(system("S"), contextual("T {request}"), few_shot(1, POOL, refusals=0))
    odd = [{"role": "user", "content": None}, {"role": "user", "content": ["text", {"type": "text", "text": "Q"}]}]
    result = apply_to_messages(policy, odd)
    assert result[-1]["content"][0] == {"type": "text", "text": "T "}
    assert apply_to_messages(policy, [])[0] == {"role": "system", "content": "S"}
