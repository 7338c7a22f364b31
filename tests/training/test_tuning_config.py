"""Settings that trainings share reach the loop as they are."""

from __future__ import annotations

import pytest

from equipoise.errors import UsageError
from equipoise.training.detector import DetectorTrainingConfig
from equipoise.training.detoxifier import DetoxifierTrainingConfig
from equipoise.training.tuning_config import FineTuningConfig


@pytest.mark.parametrize("kind", [DetectorTrainingConfig, DetoxifierTrainingConfig])
def test_every_setting_of_the_loop_is_the_recipes(kind: type[FineTuningConfig]) -> None:
    recipe = kind("x", epochs=7, rate=2e-4, batch=5, seed=3, lora=2, bf16=True, compiled=True)
    loop = recipe.supervised(11, "cpu")
    assert (loop.epochs, loop.rate, loop.batch, loop.seed) == (7, 2e-4, 5, 3)
    assert (loop.bf16, loop.compiled, loop.checkpoint_every, loop.device) == (True, True, 11, "cpu")


@pytest.mark.parametrize("setting", ["frozen_bf16", "adapter_only"])
@pytest.mark.parametrize("kind", [DetectorTrainingConfig, DetoxifierTrainingConfig])
def test_settings_of_adapters_need_adapters(kind: type[FineTuningConfig], setting: str) -> None:
    with pytest.raises(UsageError, match="lora=16"):
        kind("x", **{setting: True}).require_adapters()
    kind("x", lora=4, **{setting: True}).require_adapters()
