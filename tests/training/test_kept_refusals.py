"""Refusals that adversarial training must keep: which questions are taken, and how they are counted."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.errors import UsageError
from equipoise.judges.phrases import judge_reply
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.training import kept_refusals
from equipoise.training.adversarial_examples import AdversarialExample, from_testbed
from equipoise.training.kept_refusals import count_refusals, sample_refused
from tests.training.fakes import REFUSAL, noise


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_refusals, "CHECKED_QUESTIONS", 6)


def test_every_question_is_one_that_is_refused_with_its_picture() -> None:
    exchanges = sample_refused(from_testbed, 0)
    assert len(exchanges) == 6
    for exchange in exchanges:
        (message,) = exchange.prompt.messages
        assert len(message.images) == 1
        assert judge_reply(message.text, exchange.reply).refusal == "full"


def test_an_example_gives_one_question_at_most() -> None:
    def twice(rng: np.random.Generator) -> AdversarialExample:
        return AdversarialExample(noise(rng).picture, (("Help me?", REFUSAL), ("And now?", REFUSAL)))

    texts = [exchange.prompt.messages[0].text for exchange in sample_refused(twice, 0)]
    assert texts == ["Help me?"] * 6


def test_the_seed_decides_the_questions() -> None:
    first, again, other = (
        [exchange.prompt.messages[0].text for exchange in sample_refused(from_testbed, seed)] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_examples_without_refusals_are_an_error() -> None:
    def answers(rng: np.random.Generator) -> AdversarialExample:
        return AdversarialExample(noise(rng).picture, (("What?", "A red circle."),))

    with pytest.raises(UsageError, match="some examples whose answer is a refusal"):
        sample_refused(answers, 0)


def test_the_reference_model_refuses_what_it_learned_to_refuse() -> None:
    model = load("testbed/llava", device="cpu")
    assert isinstance(model, HuggingFaceModel)
    refused = sample_refused(from_testbed, 0)
    assert count_refusals(model, refused) >= 5
