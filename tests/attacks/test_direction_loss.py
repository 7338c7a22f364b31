"""The objective on a direction: the projection of the stream as a hook reads it, raised by its own gradient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from equipoise.attacks.budgets import Budget
from equipoise.attacks.direction_loss import DirectionLoss, projections
from equipoise.attacks.objectives import TargetReplyLoss
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.errors import ModelError, UsageError
from equipoise.media.quantize import to_image
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.steering.direction import Direction
from equipoise.steering.edits import capture
from equipoise.steering.prompt_forward import prompt_inputs, run_prompts
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from tests.attacks.fakes import CLEAN
from tests.models.families.llava import llava
from tests.models.tiny_plain import PlainTorchModel

QUESTIONS = tuple(map(Prompt.ask, ("What is in the picture?", "Why?")))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    loaded = load(str(folder))
    assert isinstance(loaded, HuggingFaceModel)
    return loaded


@pytest.fixture(scope="module")
def direction(model: HuggingFaceModel) -> Direction:
    vector = 3 * torch.randn(32, generator=Generator().manual_seed(1))
    return Direction(vector, layer=1, position=-1, model=model.name, revision=model.revision)


def test_projections_are_those_of_the_captured_stream(model: HuggingFaceModel, direction: Direction) -> None:
    steerable = Steerable.of(model)
    for number, prompt in enumerate(QUESTIONS):
        with capture(steerable, last=1, layers=[1]) as captured:
            run_prompts(steerable, prompt_inputs(steerable, [prompt.with_picture(to_image(CLEAN))]))
        expected = captured.layer(1).reshape(-1, 32)[-1].float() @ direction.unit
        with torch.no_grad():
            values = projections(model, CLEAN, QUESTIONS, direction)
        torch.testing.assert_close(values[number], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_in_lengths_of_the_direction_and_its_gradient_raises_the_projection(
    model: HuggingFaceModel, direction: Direction
) -> None:
    objective = DirectionLoss(TargetReplyLoss((model,), QUESTIONS, "-"), (direction,))
    evaluation = objective(CLEAN, [0, 1], Generator())
    with torch.no_grad():
        before = projections(model, CLEAN, QUESTIONS, direction)
    assert evaluation.loss == pytest.approx(-float(before.mean()) / direction.norm, rel=1e-4)
    ahead = (CLEAN - 4 / 255 * evaluation.gradient.sign()).clamp(0, 1)
    with torch.no_grad():
        assert projections(model, ahead, QUESTIONS, direction).mean() > before.mean()


def test_the_loss_in_words_is_added_by_its_weight(model: HuggingFaceModel, direction: Direction) -> None:
    words = TargetReplyLoss((model,), QUESTIONS, "Sorry.")
    losses = [objective(CLEAN, [0, 1], Generator()) for objective in (DirectionLoss(words, (direction,)), words)]
    both = DirectionLoss(words, (direction,), 0.5)(CLEAN, [0, 1], Generator())
    assert both.loss == pytest.approx(losses[0].loss + 0.5 * losses[1].loss, rel=1e-5)
    torch.testing.assert_close(both.gradient, losses[0].gradient + 0.5 * losses[1].gradient)
    for settings in ({"sentence_weight": 1.0}, {"sentence_weight": -1.0, "directions": (direction,)}):
        with pytest.raises(UsageError, match=r"sentence_weight"):
            RefusalAttack(**settings)


@dataclass(frozen=True)
class Renamed(TargetReplyLoss):
    """A loss in words that says how often its aim has changed."""

    changes: int = 0

    @property
    def version(self) -> int:
        return self.changes


def test_a_change_of_the_aim_counts_where_the_loss_in_words_does(model: HuggingFaceModel, direction: Direction) -> None:
    words = Renamed((model,), QUESTIONS, "Sorry.", changes=3)
    assert DirectionLoss(words, (direction,), 0.5).version == 3
    assert DirectionLoss(words, (direction,)).version == 0, "losses before and after are those of one objective"


def test_an_attack_follows_the_direction(model: HuggingFaceModel, direction: Direction) -> None:
    attack = RefusalAttack(Budget("linf", 8 / 255), steps=5, check_every=0, directions=(direction,))
    result = attack(to_image(CLEAN), [model], [prompt.text for prompt in QUESTIONS])
    losses = [step.loss for step in result.trace]
    assert losses[-1] < losses[0]
    assert result.recipe["objective"]["kind"] == "direction"
    assert result.recipe["objective"]["directions"][0]["digest"] == direction.digest


def test_what_does_not_belong_together_is_refused(
    model: HuggingFaceModel, direction: Direction, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a direction for each of 1 targets, got 2"):
        DirectionLoss(TargetReplyLoss((model,), QUESTIONS, "-"), (direction, direction))
    with pytest.raises(ModelError, match="without defences"):
        DirectionLoss(TargetReplyLoss((PlainTorchModel(),), QUESTIONS, "-"), (direction,))
    other = Direction(torch.ones(32), layer=1, position=-1, model="other", revision="other")
    with pytest.raises(ModelError, match="the model that the direction was found on"):
        DirectionLoss(TargetReplyLoss((model,), QUESTIONS, "-"), (other,))
    with pytest.raises(UsageError, match="directions or a reply"):
        RefusalAttack(directions=(direction,), reply="No.")


def test_the_model_is_left_as_found(model: HuggingFaceModel, direction: Direction) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.model.modules())

    before, state = hooks(), model._sharing
    leaf: Tensor = CLEAN.clone().requires_grad_(True)
    projections(model, leaf, QUESTIONS, direction).sum().backward()
    assert leaf.grad is not None
    assert (hooks(), model._sharing) == (before, state)
