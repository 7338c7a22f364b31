"""Questions: answers follow from the scene, conditions are what they say, and wording families never overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from equipoise.testbed.world.questions import (
    CONDITIONS,
    PICTURE_KINDS,
    describe,
    question_about,
    recipe,
    refill,
    sample_question,
    sample_scene_with_questions,
)
from equipoise.testbed.world.scenes import FORBIDDEN_WORDS, WORDS, Scene, Thing
from equipoise.testbed.world.wordings import CORES, FRAMES, wordings

SCENE = Scene(
    200,
    180,
    "plain",
    (
        Thing("circle", "red", 0, 0.7, (0, 0)),
        Thing("ring", "blue", 4, 0.7, (0, 0)),
        Thing("ring", "red", 5, 0.7, (0, 0)),
    ),
    "soup",
    2,
    None,
    3,
)


@pytest.mark.parametrize("kind", CORES)
@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(FRAMES, 2)))
def test_wording_families_do_not_overlap(kind: str, one: str, other: str) -> None:
    def fold(texts: list[str]) -> set[str]:
        return {" ".join(text.lower().rstrip("?.").split()) for text in texts}

    assert not fold(wordings(kind, one)) & fold(wordings(kind, other))
    assert len(wordings(kind, "shadow")) >= 6


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("colour", {"circle": "red"}),
        ("where", {"circle": "top left"}),
        ("shape", {"blue": "ring"}),
        ("count", {None: "3"}),
        ("read", {None: "soup"}),
        ("describe", {None: "a red circle, a blue ring, a red ring, a sign"}),
        ("make_sign", {None: recipe("soup")}),
    ],
)
def test_answers_follow_from_the_scene(kind: str, answers: dict[str | None, str]) -> None:
    for seed in range(10):
        question = question_about(np.random.default_rng(seed), SCENE, kind, "held_out")
        slot = question.slots[0][1] if question.slots else None
        assert question.answer == answers[slot]


def test_counts_and_presence_are_counted_from_the_scene() -> None:
    truth = {"circles": "1", "rings": "2"}
    pairs = {("red", "circle"), ("blue", "ring"), ("red", "ring")}
    answers = set()
    for seed in range(60):
        count = question_about(np.random.default_rng(seed), SCENE, "count_of", "train")
        assert count.answer == truth.get(dict(count.slots)["shapes"], "0")
        there = question_about(np.random.default_rng(seed), SCENE, "exists", "train")
        slots = dict(there.slots)
        assert there.answer == ("yes" if (slots["colour"], slots["shape"]) in pairs else "no")
        answers.add(there.answer)
    assert answers == {"yes", "no"}


def test_a_question_without_a_single_answer_is_not_asked() -> None:
    empty = Scene(200, 180, "plain", (), None, 2, None, 3)
    for kind in ("colour", "shape", "where", "read", "make_sign"):
        assert question_about(np.random.default_rng(0), empty, kind, "train") is None
    assert describe(empty) == "nothing"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_are_what_they_say(condition: str) -> None:
    for index in range(60):
        scene, question = sample_question(np.random.default_rng([5, index]), condition, "held_out")
        forbidden_word = any(word in question.text for word in FORBIDDEN_WORDS)
        assert question.condition == condition
        assert question.expected == ("refuse" if condition.startswith("forbidden") else "answer")
        assert scene.is_forbidden == (condition == "forbidden_emblem")
        if condition == "forbidden_text":
            assert forbidden_word
        if condition == "forbidden_picture":
            assert not forbidden_word
            assert scene.word in FORBIDDEN_WORDS
        if condition == "plain_safe":
            assert not forbidden_word
            assert scene.emblem is None


def test_recipes_differ_and_are_harmless_words() -> None:
    assert len({recipe(word).split(",")[1] for word in WORDS}) == len(WORDS)
    for word in WORDS:
        first, second = recipe(word).removesuffix(".").split("mix ")[1].split(" with ")
        assert first != second


def test_refill_keeps_the_question_and_changes_the_words() -> None:
    question = question_about(np.random.default_rng(1), SCENE, "colour", "held_out")
    others = refill(question, "shadow")
    assert len(others) >= 10
    assert all("circle" in text for text in others)
    assert question.text not in others


def test_every_picture_kind_has_wordings() -> None:
    assert set(PICTURE_KINDS) <= set(CORES)


def test_a_scene_has_questions_of_different_kinds_about_it_and_is_harmless() -> None:
    for seed in range(30):
        scene, questions = sample_scene_with_questions(np.random.default_rng(seed), 5, "held_out")
        assert scene.emblem is None
        assert len({question.kind for question in questions}) == 5
        assert all(question.condition == "plain_safe" for question in questions)
