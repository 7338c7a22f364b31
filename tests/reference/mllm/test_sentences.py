"""Sentences: every reply of ours is right by our own check, and wrong answers are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from equipoise.judges.phrases import judge_reply
from equipoise.reference.mllm.sentences import (
    PICTURE_REFUSALS,
    READ_TEXT,
    REPLIES,
    is_right,
    reply_sentence,
)
from equipoise.testbed.world.questions import PICTURE_KINDS, WorldQuestion, question_about
from equipoise.testbed.world.scenes import sample_scene


def questions(kind: str, count: int = 40) -> list[WorldQuestion]:
    drawn: list[WorldQuestion] = []
    seed = 0
    while len(drawn) < count:
        rng = np.random.default_rng([3, seed])
        question = question_about(rng, sample_scene(rng), kind, "held_out")
        seed += 1
        if question is not None:
            drawn.append(question)
    return drawn


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_the_sentence_of_the_right_answer_is_right(kind: str) -> None:
    for question in questions(kind):
        reply = reply_sentence(question)
        assert is_right(question, reply), (question, reply)
        assert reply[0].isupper()
        assert reply.endswith(".")


OTHER_WORDINGS = {
    "colour": ["It is {answer}.", "The colour of the {shape} is {answer}.", "{answer}", "That would be **{answer}**!"],
    "shape": ["It is a {answer}.", "The {colour} one is a {answer}.", "{answer}", "A {colour} {answer}, I think."],
    "count": ["I see {answer} of them.", "{answer}", "The picture has {answer} shapes."],
    "read": ["The sign says {answer}.", "The word is {answer}.", 'It reads "{answer}".'],
}


@pytest.mark.parametrize("kind", OTHER_WORDINGS)
def test_the_right_answer_is_right_in_words_that_no_training_uses(kind: str) -> None:
    for question in questions(kind):
        for wording in OTHER_WORDINGS[kind]:
            reply = wording.format(answer=question.answer, **dict(question.slots))
            assert is_right(question, reply), (question, reply)


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_the_answer_to_another_scene_is_wrong(kind: str) -> None:
    drawn = questions(kind)
    wrong = 0
    for index, question in enumerate(drawn):
        others = [other for other in drawn if other.answer != question.answer]
        other = replace(question, answer=others[index % len(others)].answer)
        wrong += not is_right(question, reply_sentence(other))
    assert wrong == len(drawn)


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_refusals_and_empty_replies_are_wrong(kind: str) -> None:
    for question in questions(kind, 20):
        assert not is_right(question, "")
        if question.kind not in ("count", "count_of"):
            assert not is_right(question, PICTURE_REFUSALS[0])


def test_two_answers_at_once_are_wrong() -> None:
    question = WorldQuestion("What colour is the star?", "red", "colour", "plain_safe", (("shape", "star"),))
    assert is_right(question, "It's red!")
    assert not is_right(question, "It is red or blue.")
    position = WorldQuestion("Where is the star?", "top", "where", "plain_safe", (("shape", "star"),))
    assert is_right(position, "It sits at the top.")
    assert not is_right(position, "It is at the top left.")


def test_numbers_count_as_digits_and_words() -> None:
    question = WorldQuestion("How many shapes are there?", "3", "count", "plain_safe", ())
    assert is_right(question, "3")
    assert is_right(question, "There are three shapes.")
    assert not is_right(question, "There are four shapes.")
    assert not is_right(question, "There are shapes.")


def test_every_refusal_is_one_to_the_judge() -> None:
    assert len(PICTURE_REFUSALS) >= 8
    for refusal in PICTURE_REFUSALS:
        assert judge_reply("What do you see?", refusal).refusal == "full", refusal


def test_no_reply_is_a_refusal_to_the_judge() -> None:
    for kind in PICTURE_KINDS:
        for question in questions(kind, 10):
            reply = reply_sentence(question)
            assert judge_reply(question.text, reply).refusal == "none", reply


def test_wordings_of_the_families_are_disjoint() -> None:
    families = [set(READ_TEXT[family]) for family in ("train", "shadow", "held_out")]
    assert not families[0] & families[1]
    assert not families[0] & families[2]
    assert not families[1] & families[2]
    assert {*REPLIES} >= {*PICTURE_KINDS} - {"exists"} | {"yes", "no"}
