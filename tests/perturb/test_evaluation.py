"""`evaluate_both`: every question once about each picture, in order, whatever the batch size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from equipoise.perturb.evaluation import evaluate_both
from equipoise.types import Exchange, Prompt
from tests.cli.fakes import ANSWER, REFUSAL, BrightnessModel

DARK, BRIGHT = Image.new("RGB", (8, 8), (20, 20, 20)), Image.new("RGB", (8, 8), (250, 250, 250))
QUESTIONS = [f"Question {number}?" for number in range(7)]


class CountingModel(BrightnessModel):
    """Keeps the size of each batch and the limit of tokens."""

    def __init__(self) -> None:
        super().__init__("toy/target")
        self.batches: list[tuple[int, int]] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.batches.append((len(prompts), max_new_tokens))
        return super().generate(prompts, max_new_tokens=max_new_tokens)


@pytest.mark.parametrize(("size", "batches"), [(None, [7, 7]), (7, [7, 7]), (3, [3, 3, 1, 3, 3, 1]), (100, [7, 7])])
def test_batches_have_the_size_asked_for_and_change_no_answer(size: int | None, batches: list[int]) -> None:
    model = CountingModel()
    answers = evaluate_both(model, "target", DARK, BRIGHT, QUESTIONS, max_new_tokens=9, batch_size=size)
    assert model.batches == [(count, 9) for count in batches]
    assert [answer.question for answer in answers.answers] == QUESTIONS
    assert {(answer.clean, answer.perturbed) for answer in answers.answers} == {(ANSWER, REFUSAL)}
    assert {(answer.clean_refusal, answer.perturbed_refusal) for answer in answers.answers} == {("none", "full")}


def test_the_answers_name_the_model_and_its_role() -> None:
    model = CountingModel()
    answers = evaluate_both(model, "bystander", BRIGHT, DARK, QUESTIONS[:1], max_new_tokens=9)
    assert (answers.model, answers.revision, answers.role) == (model.name, model.revision, "bystander")
    assert (answers.clean.k, answers.perturbed.k) == (1, 0)
