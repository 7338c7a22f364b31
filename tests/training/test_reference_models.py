"""Training: a killed run resumed gives the same weights as one that ran through."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from equipoise.errors import UsageError
from equipoise.training.reference_models import ReferenceTrainingConfig, train

RECIPE = ReferenceTrainingConfig("llava", steps=4, rows=2, warmup=2)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RECIPE, tmp_path_factory.mktemp("through"), device="cpu", checkpoint_every=2)


def test_a_killed_run_resumed_gives_the_same_weights(through: Path, tmp_path: Path) -> None:
    def kill(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(RECIPE, tmp_path, device="cpu", checkpoint_every=2, progress=kill)
    resumed = train(RECIPE, tmp_path, device="cpu", checkpoint_every=2)
    one, other = (load_file(folder / "model.safetensors") for folder in (through, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(tensor.dtype == torch.bfloat16 for tensor in one.values())


def test_a_checkpoint_of_another_recipe_is_refused(through: Path) -> None:
    with pytest.raises(UsageError, match="same recipe"):
        train(ReferenceTrainingConfig("llava", steps=5, rows=2), through.parent, device="cpu")


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="try llava or internvl"):
        train(ReferenceTrainingConfig("nonsense"), tmp_path)
