"""Policies on the messages of a chat request: what is added, and that nothing else changes."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from equipoise.prompts.chat_messages import apply_to_messages, apply_to_texts
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


TEXTS = st.text("ab {}\n", min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXTS), min_size=1, max_size=5), st.booleans())
def test_texts_change_in_their_places_and_none_is_added(turns: list[tuple[str, str]], operator: bool) -> None:
    turns = [("system", "Be brief."), *turns] if operator else turns
    roles, texts = [role for role, _ in turns], [text for _, text in turns]
    result = apply_to_texts(compose(system("Be kind."), contextual("<< {request} >>")), texts, roles)
    if "user" not in roles:
        assert result is None
        return
    assert result is not None
    assert len(result) == len(texts)
    last = max(i for i, role in enumerate(roles) if role == "user")
    first = 0 if operator else roles.index("user")
    assert all(texts[i] in result[i] for i in range(len(texts))), "every text is still there, whole"
    assert result[first].startswith("Be kind.\n\n" if operator or first != last else "<< Be kind.\n\n")
    assert result[last].endswith(" >>")
    assert [r for i, r in enumerate(result) if i not in (first, last)] == [
        t for i, t in enumerate(texts) if i not in (first, last)
    ]


@given(TEXTS)
def test_texts_and_messages_of_one_request_become_the_same(text: str) -> None:
    policy = compose(system("Be kind.", "user"), contextual("<< {request} >>"))
    (message,) = apply_to_messages(policy, [{"role": "user", "content": text}])
    assert apply_to_texts(policy, [text], ["user"]) == [message["content"]]


def test_texts_of_a_request_with_pictures_take_the_frame_for_pictures() -> None:
    policy = contextual("T {request}", "P {request}")
    assert apply_to_texts(policy, ["x"], ["user"], pictured=True) == ["P x"]
    assert apply_to_texts(policy, ["x"], ["user"]) == ["T x"]
    assert apply_to_texts(contextual("T {request}"), ["x"], ["user"], pictured=True) == ["T x"]


def test_exemplars_cannot_be_put_into_texts() -> None:
    assert apply_to_texts(compose(system("Be kind."), few_shot(2, POOL)), ["x"], ["user"]) is None
    assert apply_to_texts(system("Be kind."), [], []) is None
