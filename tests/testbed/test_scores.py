"""Scores of a model in the embedded world: right answers and refusals are counted of held-out prompts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from equipoise.testbed.scores import ReferenceCase, sample_cases, score, score_condition
from equipoise.testbed.world.questions import CONDITIONS, REFUSALS, Condition
from equipoise.testbed.world.wordings import wordings
from equipoise.types import Exchange, Prompt

COUNT = 7


class ScriptedModel:
    """A chat model that replies by the number of the prompt; it keeps the size of every batch."""

    name = "scripted"

    def __init__(self, reply: Callable[[int, Prompt], str]) -> None:
        self.reply = reply
        self.batches: list[int] = []
        self.prompts: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.batches.append(len(prompts))
        first = len(self.prompts)
        self.prompts += prompts
        return [Exchange(p, self.reply(first + number, p), "stop", self.name) for number, p in enumerate(prompts)]


def answers_of(condition: Condition, count: int = COUNT) -> list[str]:
    return [case.question.answer for case in sample_cases(condition, count)]


def fingerprint(case: ReferenceCase) -> tuple[str, str, bytes]:
    return case.question.text, case.question.answer, case.prompt.pictures[0].tobytes()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_cases_are_of_their_condition_and_a_longer_list_begins_with_the_shorter(condition: Condition) -> None:
    short, long = sample_cases(condition, 2), sample_cases(condition, 4)
    assert {case.question.condition for case in long} == {condition}
    assert [fingerprint(case) for case in short] == [fingerprint(case) for case in long[:2]]
    assert [case.prompt.text for case in long] == [case.question.text for case in long]
    assert all(len(case.prompt.pictures) == 1 for case in long)


def test_conditions_and_seeds_have_pictures_of_their_own() -> None:
    pictures = [
        case.prompt.pictures[0].tobytes()
        for condition in CONDITIONS
        for seed in (0, 1)
        for case in sample_cases(condition, 2, seed=seed)
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_wordings_of_a_case_are_those_of_its_family(condition: Condition) -> None:
    for family in ("held_out", "shadow"):
        for case in sample_cases(condition, 3, family=family):
            slots = dict(case.question.slots)
            assert case.question.text in {text.format(**slots) for text in wordings(case.question.kind, family)}
            assert case.question.text not in {text.format(**slots) for text in wordings(case.question.kind, "train")}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_model_that_knows_the_answers_is_right_everywhere_and_refuses_nothing(condition: Condition) -> None:
    answers = answers_of(condition)
    scores = score_condition(ScriptedModel(lambda number, _: answers[number]), condition, COUNT)
    assert (scores.condition, scores.exact.k, scores.exact.n) == (condition, COUNT, COUNT)
    assert scores.refused.k == 0


def test_space_around_an_answer_does_not_count_and_a_word_more_does() -> None:
    answers = answers_of("plain_safe")
    around = score_condition(ScriptedModel(lambda number, _: f" {answers[number]}\n"), "plain_safe", COUNT)
    longer = score_condition(ScriptedModel(lambda number, _: f"{answers[number]} indeed"), "plain_safe", COUNT)
    assert (around.exact.k, longer.exact.k) == (COUNT, 0)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_refusal_of_the_world_is_counted_as_one(refusal: str) -> None:
    scores = score_condition(ScriptedModel(lambda *_: refusal), "forbidden_text", COUNT)
    assert (scores.refused.k, scores.refused.unscored, scores.exact.k) == (COUNT, 0, 0)


def test_replies_that_cannot_be_judged_stand_apart_from_the_refusals() -> None:
    replies = ["", REFUSALS[0], "a red circle", "", "soup", REFUSALS[1], "yes"]
    scores = score_condition(ScriptedModel(lambda number, _: replies[number]), "plain_safe", COUNT)
    assert (scores.refused.k, scores.refused.n, scores.refused.unscored) == (2, 5, 2)


@pytest.mark.parametrize(("batch", "sizes"), [(3, [3, 3, 1]), (7, [7]), (50, [7]), (1, [1] * 7)])
def test_batches_change_no_score(batch: int, sizes: list[int]) -> None:
    answers = answers_of("look_alike_safe")
    model = ScriptedModel(lambda number, _: answers[number] if number % 2 else "nothing of the kind")
    scores = score_condition(model, "look_alike_safe", COUNT, batch=batch)
    assert model.batches == sizes
    assert scores.exact.k == 3


def test_all_conditions_are_scored_in_their_order() -> None:
    rows = score(ScriptedModel(lambda *_: REFUSALS[0]), 2)
    assert [row.condition for row in rows] == list(CONDITIONS)
    assert all((row.refused.k, row.refused.n) == (2, 2) for row in rows)
