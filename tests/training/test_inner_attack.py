"""The attack inside adversarial training: budget, effect, and what it leaves alone; the losses that it descends on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.attacks.budgets import Budget, parse_epsilon
from equipoise.attacks.refusal_targets import TARGET_REFUSALS, cross_entropies
from equipoise.judges.phrases import judge_reply
from equipoise.media.quantize import is_quantized, to_pixels
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.training.adversarial_examples import AdversarialExample, from_testbed
from equipoise.training.inner_attack import TARGETS, InnerAttack, answered, most_likely_refusals, reply_losses
from equipoise.types import Prompt
from tests.attacks.fakes import within
from tests.training.fakes import REFUSAL, noise, tiny

BUDGET = Budget("linf", 8 / 255)


@pytest.fixture(scope="module")
def reference() -> HuggingFaceModel:
    """A model that has learned something, for what is not trained here."""
    model = load("testbed/llava", device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model


def answered_examples(count: int) -> Iterator[AdversarialExample]:
    """Examples of the embedded world without refusals, one question each."""
    seed = 0
    while count:
        example = from_testbed(np.random.default_rng(seed))
        seed += 1
        if all(judge_reply(text, reply).refusal == "none" for text, reply in example.turns):
            count -= 1
            yield AdversarialExample(example.picture, example.turns[:1])


@pytest.mark.parametrize("epsilon", ["8/255", "0.03"])
@pytest.mark.parametrize("untargeted", [0.0, 1.0])
def test_the_attack_inside_keeps_the_budget_and_has_its_effect(
    reference: HuggingFaceModel, epsilon: str, untargeted: float
) -> None:
    budget = Budget("linf", parse_epsilon(epsilon))
    attack = InnerAttack(reference, budget, 5, untargeted, [REFUSAL])
    examples = list(answered_examples(3))
    clean = [to_pixels(example.picture.resize((96, 96))) for example in examples]
    perturbed = attack(examples, clean, np.random.default_rng(5))
    replies = [[REFUSAL] if untargeted == 0 else [reply for _, reply in example.turns] for example in examples]
    with torch.no_grad():
        before, after = (reply_losses(reference, examples, pixels, replies) for pixels in (clean, perturbed))
    assert bool((after < before).all() if untargeted == 0 else (after > before).all())
    for one, origin in zip(perturbed, clean, strict=True):
        assert is_quantized(one)
        assert within(budget, one, origin)
        assert budget.measure(one, origin) > 0.8 * budget.epsilon
        assert not one.requires_grad
    assert all(weight.grad is None for weight in reference.model.parameters())


def test_what_should_be_refused_is_left_alone_unless_the_attack_is_untargeted(reference: HuggingFaceModel) -> None:
    (example,) = answered_examples(1)
    question = example.turns[0][0]
    refused = AdversarialExample(example.picture, ((question, REFUSAL),))
    mixed = AdversarialExample(example.picture, ((question, REFUSAL), *example.turns))
    clean = [to_pixels(example.picture.resize((96, 96)))] * 2
    attack = InnerAttack(reference, BUDGET, 2, 0.0, [REFUSAL])
    alone, both = attack([refused, mixed], clean, np.random.default_rng(0))
    assert torch.equal(alone, clean[0])
    assert not torch.equal(both, clean[0])
    perturbed = InnerAttack(reference, BUDGET, 2, 1.0, [REFUSAL])([refused], clean[:1], np.random.default_rng(0))
    with torch.no_grad():
        before, after = (
            float(reply_losses(reference, [refused], pixels, [[REFUSAL]])) for pixels in (clean[:1], perturbed)
        )
    assert after > before


def test_the_same_draw_gives_the_same_attack(reference: HuggingFaceModel) -> None:
    attack = InnerAttack(reference, BUDGET, 2, 0.2, list(TARGET_REFUSALS))
    examples = list(answered_examples(1))
    clean = [to_pixels(example.picture) for example in examples]
    one, other, third = (attack(examples, clean, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], third[0])


def test_losses_are_those_of_each_example_alone(llava_folder: Path) -> None:
    model = tiny(llava_folder)
    examples = [noise(np.random.default_rng(seed)) for seed in range(3)]
    pixels = [to_pixels(example.picture) for example in examples]
    replies = [[reply for _, reply in example.turns] for example in examples]
    with torch.no_grad():
        together = reply_losses(model, examples, pixels, replies)
        alone = [
            reply_losses(model, [example], [picture], [own])
            for example, picture, own in zip(examples, pixels, replies, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_a_loss_is_the_mean_of_its_questions(llava_folder: Path) -> None:
    model = tiny(llava_folder)
    example = noise(np.random.default_rng(0))
    pixels = to_pixels(example.picture)
    with torch.no_grad():
        both = reply_losses(model, [example], [pixels], [[reply for _, reply in example.turns]])
        single = [
            reply_losses(model, [AdversarialExample(example.picture, (turn,))], [pixels], [[turn[1]]])
            for turn in example.turns
        ]
    torch.testing.assert_close(both, torch.stack(single).mean(0))


def test_turns_that_refuse_are_not_among_the_answered() -> None:
    example = noise(np.random.default_rng(0))
    assert answered(example) == (("What is in the picture?", "A red circle."),)


def test_the_targets_are_the_refusals_that_cost_the_model_least(reference: HuggingFaceModel) -> None:
    example = from_testbed(np.random.default_rng(1))
    targets = most_likely_refusals(reference, lambda rng: example, 0, 96)
    costs = cross_entropies(to_pixels(example.picture.resize((96, 96))), [reference], [Prompt.ask(example.turns[0][0])])
    cost_of = dict(zip(TARGET_REFUSALS, costs.tolist(), strict=True))
    assert len(targets) == TARGETS
    assert max(cost_of[text] for text in targets) <= min(
        cost_of[text] for text in TARGET_REFUSALS if text not in targets
    )
