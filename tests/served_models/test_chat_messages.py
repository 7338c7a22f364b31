from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from equipoise.media.encode import read_data_url
from equipoise.served_models.chat_messages import content_text, first_choice, first_message, refusal_text, to_openai
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
