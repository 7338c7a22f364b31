"""Prompts: pictures are replaced in order, and nothing else of the conversation changes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.errors import UsageError
from equipoise.types import Message, Prompt, Sample, Turn, Verdict, sample_values


def picture(grey: int = 0) -> Image.Image:
    return Image.new("L", (2, 2), grey)


MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant"]),
    text=st.text(max_size=5),
    images=st.lists(st.integers(0, 99).map(picture), max_size=2).map(tuple),
)
PROMPTS = st.builds(
    Prompt,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(lambda before: (*before, Message("user", "Why?"))),
    system=st.none() | st.text(max_size=5),
)


@settings(max_examples=80, deadline=None)
@given(prompt=PROMPTS)
def test_replacing_all_pictures_keeps_turns_texts_and_counts(prompt: Prompt) -> None:
    new = [picture(100 + index) for index in range(len(prompt.pictures))]
    changed = prompt.with_pictures(new)
    assert list(changed.pictures) == new
    assert changed.with_pictures(prompt.pictures) == prompt


@settings(max_examples=80, deadline=None)
@given(prompt=PROMPTS)
def test_one_picture_takes_the_place_of_the_first(prompt: Prompt) -> None:
    new = picture(255)
    changed = prompt.with_picture(new)
    assert changed.pictures == (new, *prompt.pictures[1:])
    assert [(m.role, m.text) for m in changed.messages] == [(m.role, m.text) for m in prompt.messages]
    assert changed.system == prompt.system
    if prompt.pictures:
        assert changed.with_picture(prompt.pictures[0]) == prompt


def test_a_prompt_without_pictures_gets_one_in_its_first_user_message() -> None:
    prompt = Prompt((Message("assistant", "Hello!"), Message("user", "A?"), Message("user", "B?")))
    assert [len(message.images) for message in prompt.with_picture(picture()).messages] == [0, 1, 0]


def test_a_prompt_without_a_user_cannot_get_a_picture() -> None:
    with pytest.raises(UsageError, match="user message"):
        Prompt((Message("assistant", "Hello!"),)).with_picture(picture())


def test_pictures_of_a_sample_go_to_the_turns_they_belong_to() -> None:
    pictures = tuple(GeneratedPicture.of(Image.new("RGB", (n, 1))) for n in (1, 2, 3))
    earlier = (
        Turn("user", "Look.", 1),
        Turn("assistant", "I see."),
        Turn("user", "And?", 1),
        Turn("assistant", "Yes."),
    )
    sample = Sample("1", "s", "So?", "answer", pictures, system="Be brief.", earlier=earlier)
    assert [(m.role, m.text, [i.width for i in m.images]) for m in sample.prompt.messages] == [
        ("user", "Look.", [1]),
        ("assistant", "I see.", []),
        ("user", "And?", [2]),
        ("assistant", "Yes.", []),
        ("user", "So?", [3]),
    ]
    assert sample.prompt.system == "Be brief."
    assert sample.prompt.text == "So?"


def test_a_sample_that_begins_no_reply_has_the_fields_that_it_always_had() -> None:
    plain = Sample("a", "toy", "How?", "answer")
    assert not {"prefill", "templated"} & set(sample_values(plain))
    assert sample_values(replace(plain, prefill="Mix"))["prefill"] == "Mix"
    assert sample_values(replace(plain, templated=False))["templated"] is False
    assert Sample(**sample_values(replace(plain, prefill="Mix", templated=False))) == replace(
        plain, prefill="Mix", templated=False
    )


def test_a_sample_hands_its_beginning_to_its_prompt() -> None:
    sample = Sample("a", "toy", "How?", "answer", prefill="Mix", templated=False, system="Be brief.")
    assert (sample.prompt.prefill, sample.prompt.templated, sample.prompt.system) == ("Mix", False, "Be brief.")
    assert sample.prompt.text == "How?"


def test_pictures_are_replaced_within_a_begun_reply() -> None:
    prompt = replace(Prompt.ask("How?", picture()), prefill="Mix", templated=False)
    for changed in (prompt.with_picture(picture(9)), prompt.with_pictures([picture(9)])):
        assert (changed.prefill, changed.templated) == ("Mix", False)


def test_a_verdict_is_read_as_it_was_written() -> None:
    full = Verdict(
        "full", "severe", False, False, None, ("a", "b"), 0.9, True, True, "safety", hazards=("hate",), final=True
    )
    for verdict in (full, Verdict("none"), Verdict(None, unscored="late")):
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


def test_verdicts_of_earlier_versions_are_read_and_written_alike() -> None:
    values = {
        "refusal": "none",
        "harm": None,
        "answers": None,
        "degenerate": False,
        "unscored": None,
        "reasons": ["a"],
        "harm_probability": None,
        "review_refusal": False,
        "review_harm": False,
    }
    verdict = Verdict.from_json(values)
    assert verdict == Verdict("none", degenerate=False, reasons=("a",))
    assert verdict.to_json() == values
    assert Verdict.from_json({**values, "kind": None}) == verdict
