"""Conversations as data sets hold them: one prompt with its earlier turns, or one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.suites.conversations import ROLES, read_conversation
from equipoise.data.tables import TableRow
from equipoise.errors import UsageError
from equipoise.types import Turn

ROW = TableRow({}, Path("a.jsonl"), 7)


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize("name", ROLES)
def test_every_name_of_a_speaker(name: str) -> None:
    talk = read_conversation([say(name.upper(), "One."), say("user", "Two.")], ROW)
    assert talk.earlier == (Turn(ROLES[name], "One."),)
    assert talk.text == "Two."


def test_a_conversation_as_json_in_a_cell_is_the_same() -> None:
    messages = [say("system", "Brief."), say("user", "One."), say("assistant", "Two."), say("user", "Three.")]
    assert read_conversation(json.dumps(messages), ROW) == read_conversation(messages, ROW)


def test_several_system_texts_are_joined_and_are_no_turns() -> None:
    talk = read_conversation([say("system", "A"), say("developer", "B"), say("user", "Hi")], ROW)
    assert (talk.system, talk.earlier, talk.text) == ("A\n\nB", (), "Hi")


def test_pictures_are_counted_by_turn_and_listed_in_order() -> None:
    first = [
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "text", "text": "Look."},
        {"type": "image", "image": "b.png"},
    ]
    last = [{"type": "input_image", "image_url": "c.png"}, {"type": "text", "text": "And?"}]
    talk = read_conversation([say("user", first), say("assistant", "Yes."), say("user", last)], ROW)
    assert talk.pictures == ("a.png", "b.png", "c.png")
    assert talk.earlier == (Turn("user", "Look.", 2), Turn("assistant", "Yes.", 0))


def test_the_mark_of_a_picture_in_a_text_goes() -> None:
    talk = read_conversation([{"from": "human", "value": "<image>\nWhat is it?"}], ROW)
    assert talk.text == "What is it?"


@given(st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=6))
def test_what_is_sent_ends_with_the_user(roles: list[str]) -> None:
    messages = [say(role, str(number)) for number, role in enumerate(roles)]
    kept = roles[:-1] if roles[-1] == "assistant" else roles
    if not kept or kept[-1] != "user":
        with pytest.raises(UsageError, match="ends with a message of the user"):
            read_conversation(messages, ROW)
        return
    talk = read_conversation(messages, ROW)
    assert [turn.text for turn in talk.earlier] + [talk.text] == [str(number) for number in range(len(kept))]


@pytest.mark.parametrize(
    "cell", [None, 3, {}, [], "[]", "hello", [3], [say("tool", "x")], [say("user", [{"type": "video"}])]]
)
def test_anything_else_is_one_error_that_names_the_line(cell: Any) -> None:
    with pytest.raises(UsageError, match=r"a\.jsonl, line 7; try \[") as caught:
        read_conversation(cell, ROW)
    assert "\n" not in str(caught.value)
