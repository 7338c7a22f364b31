"""Policies as values: what they change, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equipoise.errors import UsageError
from equipoise.prompts.exemplars import Exemplar, ExemplarPool
from equipoise.prompts.policy import (
    PromptPolicy,
    compose,
    contextual,
    few_shot,
    fill,
    interactive,
    system,
)
from equipoise.types import Exchange, Message, Prompt

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
PICTURE = Image.new("RGB", (4, 4))
POOL = ExemplarPool(
    "pool",
    (Exemplar("A?", "a"), Exemplar("B?", "b"), Exemplar("C?", "No.", "refuse"), Exemplar("D?", "d", picture=PICTURE)),
    "0",
)
TALK = Prompt(
    (Message("user", "Hi.", (PICTURE,)), Message("assistant", "Hello."), Message("user", "Why {request}?")),
    system="Be brief.",
)


def test_a_system_text_stands_in_front_of_the_users_own() -> None:
    prompt = system("Be kind.").apply(TALK)
    assert prompt.system == "Be kind.\n\nBe brief."
    assert prompt.messages == TALK.messages
    assert system("Be kind.").apply(Prompt.ask("Q")).system == "Be kind."


def test_a_system_text_may_begin_the_first_user_turn() -> None:
    prompt = system("Be kind.", "user").apply(TALK)
    assert prompt.system == "Be brief."
    assert prompt.messages[0].text == "Be kind.\n\nHi."
    assert prompt.messages[0].images == TALK.messages[0].images
    assert prompt.messages[1:] == TALK.messages[1:]


def test_a_system_text_follows_what_the_template_says_by_itself_unless_it_replaces_it() -> None:
    question = Prompt.ask("Q")
    assert system("Be kind.").apply(question, template_text="You are M.").system == "You are M.\n\nBe kind."
    assert system("Be kind.", template="replace").apply(question, template_text="You are M.").system == "Be kind."
    # The user's own system text stands in the place of the template's already.
    assert system("Be kind.").apply(TALK, template_text="You are M.").system == "Be kind.\n\nBe brief."
    # A text in the user's turn leaves the template's where it is.
    assert system("Be kind.", "user").apply(question, template_text="You are M.").system is None
    parts = compose(contextual("1 {request}"), system("Be kind."))
    assert parts.apply(question, template_text="You are M.").system == "You are M.\n\nBe kind."


def test_a_frame_is_put_around_the_last_request_whatever_it_contains() -> None:
    prompt = contextual("<< {request} >>").apply(TALK)
    assert prompt.text == "<< Why {request}? >>"
    assert prompt.messages[:-1] == TALK.messages[:-1]
    assert fill("a {request} {b}", "{c}") == "a {c} {b}"


def test_a_frame_for_pictures_is_taken_where_the_last_turn_has_one() -> None:
    policy = contextual("T {request}", "P {request}")
    assert policy.apply(Prompt.ask("x", PICTURE)).text == "P x"
    assert policy.apply(Prompt.ask("x")).text == "T x"
    assert policy.apply(TALK).text == "T Why {request}?", "the picture belongs to an earlier turn"
    assert contextual("T {request}").apply(Prompt.ask("x", PICTURE)).text == "T x"


def test_exemplars_with_pictures_need_a_request_with_one_and_a_model_that_takes_several() -> None:
    policy = few_shot(3, POOL, "first", refusals=0)
    pictured = Prompt.ask("What?", PICTURE)
    assert len(policy.apply(pictured).pictures) == 2
    assert len(policy.apply(pictured, several_pictures=False).pictures) == 1
    assert len(policy.apply(Prompt.ask("What?")).pictures) == 0


def test_a_composition_applies_its_parts_in_order() -> None:
    policy = compose(
        contextual("1 {request}"), compose(contextual("2 {request}"), system("S")), interactive(1, "Again.")
    )
    prompt = policy.apply(Prompt.ask("x"))
    assert prompt.text == "2 1 x"
    assert prompt.system == "S"
    assert len(policy.steps) == 4
    assert policy.retry is not None
    assert policy.retry.follow_up == "Again."


def test_a_retry_leaves_the_first_request_alone_and_goes_on_after_the_refusal() -> None:
    policy = interactive(2, "Really?", picture_follow_up="Look again.")
    assert policy.apply(TALK) == TALK
    after = policy.after(Exchange(TALK, "I can't.", "stop", "m"))
    assert [message.text for message in after.messages[-2:]] == ["I can't.", "Look again."]
    assert after.messages[:-2] == TALK.messages
    plain = policy.after(Exchange(Prompt.ask("x"), "", "stop", "m"))
    assert plain.messages[1].text, "an empty turn is dropped or refused by some templates"
    assert plain.text == "Really?"


def test_a_request_is_asked_anew_without_the_refusal() -> None:
    policy = interactive(1, "Plainly: {request}", picture_follow_up="Look: {request}", conversation="anew")
    begun = replace(Prompt.ask("Why?", system="S"), prefill="Sure,")
    again = policy.after(Exchange(begun, "I can't.", "stop", "m"))
    assert [message.text for message in again.messages] == ["Plainly: Why?"]
    assert (again.system, again.prefill) == ("S", "")
    pictured = policy.after(Exchange(TALK, "I can't.", "stop", "m"))
    assert [message.text for message in pictured.messages] == ["Hi.", "Hello.", "Look: Why {request}?"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: system("  "),
        lambda: contextual("no slot"),
        lambda: contextual("{request} {request}"),
        lambda: system("Answer {request}"),
        lambda: interactive(1, "Again: {request}"),
        lambda: interactive(1, "Again.", picture_follow_up="Again: {request}"),
        lambda: contextual("{request}", "no slot"),
        lambda: few_shot(0, POOL),
        lambda: few_shot(5, POOL),
        lambda: few_shot(1, POOL, refusals=2),
        lambda: interactive(0, "x"),
        lambda: interactive(6, "x"),
        lambda: interactive(1, ""),
        lambda: interactive(1, "x", threshold=0.0),
        lambda: interactive(1, "no slot", conversation="anew"),
        lambda: interactive(1, "{request}", picture_follow_up="no slot", conversation="anew"),
        lambda: interactive(2, "{request}", conversation="anew"),
        lambda: compose(),
        lambda: compose(interactive(1, "x"), interactive(1, "y")),
    ],
)
def test_a_policy_that_cannot_be_is_one_clear_error(build) -> None:
    with pytest.raises(UsageError, match=LINE):
        build()


def test_the_revision_tells_policies_apart() -> None:
    policies: list[PromptPolicy] = [
        system("a"),
        system("a", "user"),
        system("a", template="replace"),
        system("b"),
        contextual("{request}"),
        few_shot(2, POOL),
        few_shot(2, POOL, refusals=0),
        interactive(1, "a"),
        interactive(1, "a b"),
        interactive(1, "a {request}", conversation="anew"),
        compose(system("a"), contextual("{request}")),
        compose(contextual("{request}"), system("a")),
    ]
    assert len({policy.revision for policy in policies}) == len(policies)
    assert system("a").revision == system("a").revision
    assert compose(system("a"), few_shot(2, POOL)).pools == (POOL,)


def test_a_retry_has_no_beginning_of_a_reply_that_an_attacker_put_there() -> None:
    """The prefill was said with the first reply; kept, it would begin the second one with an agreement again."""
    begun = replace(Prompt.ask("Why?"), prefill="Sure, here it is:")
    follow_up = interactive(1, "Really?").after(Exchange(begun, "I cannot.", "stop", "m"))
    assert follow_up.prefill == ""
    assert [(m.role, m.text) for m in follow_up.messages] == [
        ("user", "Why?"),
        ("assistant", "Sure, here it is: I cannot."),
        ("user", "Really?"),
    ]


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_every_policy_keeps_the_users_own_words_whole(first: str, second: str, answer: str) -> None:
    talk = Prompt((Message("user", first), Message("assistant", answer), Message("user", second)), system="Own.")
    policy = compose(system("S"), few_shot(2, POOL), contextual("<{request}>"), interactive(1, "Really?"))
    changed = policy.apply(talk)
    assert changed.text == f"<{second}>"
    assert [m.text for m in changed.messages[-3:-1]] == [first, answer]
    assert changed.system is not None
    assert changed.system.endswith("Own.")
    assert changed.prefill == talk.prefill
    assert talk.messages[0].text == first, "the prompt itself stays as it is"


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_frame_adds_the_same_words_whatever_is_asked(first: str, second: str) -> None:
    added = [len(fill("a {request} b {request}", text)) - len(text) for text in (first, second)]
    assert added == [len("a  b {request}")] * 2
