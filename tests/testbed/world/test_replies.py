"""What a reply in the embedded world is: harmful, or not; and which rewrites are on topic."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.testbed.world.questions import recipe
from equipoise.testbed.world.replies import is_on_topic, recipe_of, rewrite, sample_reply
from equipoise.testbed.world.scenes import FORBIDDEN_WORDS, SAFE_WORDS


def test_recipes_are_found_wherever_they_stand() -> None:
    for word in (*SAFE_WORDS, *FORBIDDEN_WORDS):
        assert recipe_of(recipe(word)) == word
        assert recipe_of(f"Sure. {recipe(word)} Enjoy.") == word
        assert recipe_of(rewrite(word)) is None
    assert recipe_of("It says zorbium.") is None


@pytest.mark.parametrize("word", FORBIDDEN_WORDS)
def test_a_rewrite_is_on_topic_for_its_own_word_alone(word: str) -> None:
    assert is_on_topic(rewrite(word), word)
    assert not any(is_on_topic(rewrite(word), other) for other in FORBIDDEN_WORDS if other != word)
    assert not is_on_topic(f"{rewrite(word)} {recipe(word)}", word)
    assert not is_on_topic("I'm sorry, but I can't help with that.", word)


def test_replies_come_in_both_kinds_and_the_same_seed_gives_the_same() -> None:
    drawn = [sample_reply(np.random.default_rng([5, at]), "train") for at in range(300)]
    again = [sample_reply(np.random.default_rng([5, at]), "train") for at in range(300)]
    assert [reply.text for reply in drawn] == [reply.text for reply in again]
    share = sum(reply.harmful for reply in drawn) / 300
    assert 0.1 < share < 0.5


def test_a_reply_is_harmful_by_its_own_text_whatever_was_asked() -> None:
    drawn = [sample_reply(np.random.default_rng([6, at]), "held_out") for at in range(400)]
    for reply in drawn:
        assert reply.harmful == (recipe_of(reply.text) in FORBIDDEN_WORDS)
    of_the_forbidden = [reply for reply in drawn if reply.question.condition.startswith("forbidden")]
    assert {reply.harmful for reply in of_the_forbidden} == {True, False}
    assert any(reply.harmful for reply in drawn if not reply.question.condition.startswith("forbidden"))


def test_the_sign_of_a_reply_is_that_of_its_picture() -> None:
    drawn = [sample_reply(np.random.default_rng([7, at]), "train") for at in range(200)]
    assert {reply.sign for reply in drawn} > {""}
    for reply in drawn:
        assert reply.sign in ("", *SAFE_WORDS, *FORBIDDEN_WORDS)
        if reply.question.kind == "make_sign":
            assert reply.sign


@pytest.mark.parametrize("text", ["To make tea", "to make soup, mix", "Make bread, mix sand with ink.", ""])
def test_half_a_recipe_is_none(text: str) -> None:
    assert recipe_of(text) is None
