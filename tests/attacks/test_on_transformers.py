"""The whole attack on a transformers model with random weights, through its own processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise.attacks.budgets import Budget
from equipoise.attacks.cropa import CroPAConfig
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.geometry import Resize
from equipoise.transforms.jpeg import Jpeg
from tests.attacks.fakes import QUESTIONS, photo, within
from tests.models.families.llava import llava

PICTURE = photo(0, 70, 52)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    return load(str(folder))


@pytest.mark.parametrize(
    "attack",
    [
        RefusalAttack(Budget("linf", 8 / 255), steps=6),
        RefusalAttack(Budget("l2", 3.0), "apgd", steps=6, questions_per_step=2),
        RefusalAttack(
            Budget("linf", 8 / 255),
            steps=6,
            eot=EOTConfig((Jpeg(), Resize(0.75, 0.75)), samples=1),
            learned_prompts=CroPAConfig(every=2),
        ),
    ],
    ids=["plain", "l2 few", "eot learned"],
)
def test_the_loss_falls_and_the_model_is_left_alone(model: OpenModel, attack: RefusalAttack) -> None:
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}  # type: ignore[attr-defined]
    result = attack(PICTURE, [model], QUESTIONS, bystanders=[model], seed=1)
    again = attack(PICTURE, [model], QUESTIONS, bystanders=[model], seed=1)
    assert result.image.tobytes() == again.image.tobytes()
    assert within(attack.budget, result.pixels, to_pixels(PICTURE))
    assert result.image.size == PICTURE.size
    assert result.stopped == "steps"
    assert not {"the loss never fell below that of the first step", "the picture is unchanged"} & set(result.warnings)
    network = model.model  # type: ignore[attr-defined]
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_result_names_its_model(model: OpenModel, tmp_path: Path) -> None:
    result = RefusalAttack(Budget("linf", 8 / 255), steps=1, check_every=0)(PICTURE, [model], QUESTIONS[:1])
    result.save(tmp_path / "a")
    assert result.models[0].name == model.name
    assert result.models[0].revision == model.revision
