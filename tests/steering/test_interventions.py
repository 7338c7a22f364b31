"""Interventions: the edit that they name, only on their own model, and a description that tells them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.errors import ModelError, UsageError
from equipoise.steering.conditional import ConditionalAddition, HarmCondition
from equipoise.steering.direction import Direction
from equipoise.steering.edits import ablate, add
from equipoise.steering.interventions import Ablation, Addition
from equipoise.steering.measure import MeasureSettings
from equipoise.steering.prompt_forward import next_token_log_probs, prompt_inputs
from equipoise.steering.steerable import Steerable
from tests.steering.planted import planted_directions, prompts


@pytest.fixture
def direction(planted_steerable: Steerable) -> Direction:
    vector = 6 * planted_directions()[0]
    return Direction(vector, layer=2, position=-1, model="planted", revision=planted_steerable.revision)


def first_token(steerable: Steerable) -> torch.Tensor:
    return next_token_log_probs(steerable, prompt_inputs(steerable, prompts("harmful", 4, "attack").prompts))


@pytest.mark.parametrize("coefficient", [1.0, 0.5])
def test_ablation_is_the_edit_of_the_same_name(
    planted_steerable: Steerable, direction: Direction, coefficient: float
) -> None:
    with ablate(planted_steerable, direction.vector, coefficient=coefficient):
        expected = first_token(planted_steerable)
    with Ablation(direction, coefficient).applied(planted_steerable):
        assert torch.equal(first_token(planted_steerable), expected)
    assert not torch.allclose(first_token(planted_steerable), expected)


@pytest.mark.parametrize("coefficient", [1.0, -2.0])
def test_addition_is_the_edit_at_the_directions_layer(
    planted_steerable: Steerable, direction: Direction, coefficient: float
) -> None:
    with add(planted_steerable, direction.vector, layers=[2], coefficient=coefficient):
        expected = first_token(planted_steerable)
    with Addition(direction, coefficient).applied(planted_steerable):
        assert torch.equal(first_token(planted_steerable), expected)


def test_another_models_direction_is_refused_before_anything_is_edited(
    planted_steerable: Steerable, direction: Direction
) -> None:
    other = replace(direction, revision="planted-1")
    before = first_token(planted_steerable)
    for intervention in (Ablation(other), Addition(other)):
        with pytest.raises(ModelError, match="found on"):
            intervention.applied(planted_steerable)
    assert torch.equal(first_token(planted_steerable), before)


def test_descriptions_tell_interventions_apart(direction: Direction) -> None:
    documents = [
        Ablation(direction).describe(),
        Ablation(direction, 0.5).describe(),
        Addition(direction).describe(),
        Addition(direction.scaled(2)).describe(),
    ]
    assert len({str(sorted(document.items())) for document in documents}) == 4
    assert all(document["layer"] == 2 for document in documents)


@pytest.mark.parametrize("coefficient", [float("nan"), float("inf"), -float("inf")])
def test_a_coefficient_that_is_not_finite_is_one_clear_error(coefficient: float) -> None:
    direction = Direction(torch.ones(4), layer=1, position=-1, model="m", revision="r")
    condition = HarmCondition(torch.ones(4), 0.0, 1, 0.0, "probe")
    for make in (
        lambda: Ablation(direction, coefficient),
        lambda: Addition(direction, coefficient),
        lambda: ConditionalAddition(condition, direction, coefficient),
        lambda: MeasureSettings(coefficients=(1.0, coefficient)),
    ):
        with pytest.raises(UsageError, match="expected a finite coefficient"):
            make()
