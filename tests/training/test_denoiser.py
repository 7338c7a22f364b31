"""The denoiser: it learns, goes on after a kill, and is a pipeline of diffusers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from equipoise.errors import ModelError, UsageError
from equipoise.training.denoiser import TRAINING_STEPS, DenoiserTrainingConfig, batch, train
from equipoise.training.denoiser_pictures import sample_world_picture
from equipoise.training.loop import Progress
from tests.training.fakes import KilledError, kill_at, noted

pytest.importorskip("diffusers")
TINY = DenoiserTrainingConfig(side=8, channels=(8, 32), steps=20, batch=6, learning_rate=6e-3, warmup=3, average=0.7)
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def losses() -> list[float]:
    return []


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory, losses: list[float]) -> Path:
    out = tmp_path_factory.mktemp("through")
    return train(TINY, sample_world_picture, out, source="testbed", device="cpu", progress=noted(losses))


def test_the_loss_falls(through: Path, losses: list[float]) -> None:
    assert len(losses) == TINY.steps
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_a_killed_run_resumed_gives_the_same_weights(tmp_path: Path) -> None:
    short = replace(TINY, steps=5)

    def run(out: Path, progress: Progress | None = None) -> Path:
        return train(
            short, sample_world_picture, out, source="testbed", device="cpu", checkpoint_every=3, progress=progress
        )

    with pytest.raises(KilledError):
        run(tmp_path / "killed", kill_at(4))
    one, other = (load_file(run(tmp_path / name) / WEIGHTS) for name in ("through", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(tensor.dtype == torch.bfloat16 for tensor in one.values())


def test_diffusers_loads_what_is_saved(through: Path) -> None:
    from diffusers import DDPMPipeline

    pipeline = DDPMPipeline.from_pretrained(through)
    assert pipeline.scheduler.config.num_train_timesteps == TRAINING_STEPS
    with torch.no_grad():
        predicted = pipeline.unet(torch.zeros(1, 3, 8, 8), torch.tensor([10])).sample
    assert predicted.shape == (1, 3, 8, 8)
    assert bool(predicted.isfinite().all())


def test_the_average_is_saved_and_not_the_last_weights(through: Path) -> None:
    checkpoint = torch.load(through.parent / "checkpoint.pt", weights_only=True)
    saved = list(load_file(through / WEIGHTS).items())
    last = checkpoint["state"]["network"]
    averages = {tuple(average.to(torch.bfloat16).flatten()[:8].tolist())
                for average in checkpoint["state"]["average"]["shadow_params"]}  # fmt: skip
    assert all(tuple(value.flatten()[:8].tolist()) in averages for _, value in saved)
    assert any(not torch.equal(value, last[name].to(torch.bfloat16)) for name, value in saved)


def test_another_recipe_is_refused(through: Path) -> None:
    with pytest.raises(UsageError, match="got another source; try a new folder"):
        train(TINY, sample_world_picture, through.parent, source="pictures", device="cpu")
    with pytest.raises(UsageError, match="got another seed, steps; try a new folder"):
        train(replace(TINY, steps=21, seed=1), sample_world_picture, through.parent, source="testbed", device="cpu")


def test_the_checkpoint_holds_the_whole_recipe(through: Path) -> None:
    held = torch.load(through.parent / "checkpoint.pt", weights_only=True)["recipe"]
    assert held == {**vars(TINY), "channels": [8, 32], "source": "testbed"}
    assert json.loads((through.parent / "training.jsonl").read_text().splitlines()[-1])["step"] == 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"side": 20}, "can be halved 3 times, got 20"),
        ({"side": 0}, "got 0"),
        ({"side": -8}, "got -8"),
        ({"channels": ()}, "expected a side"),
        ({"steps": 0}, "at least 1 step"),
        ({"batch": 0}, "at least 1 step of 1 picture"),
    ],
)
def test_recipes_that_cannot_be(given: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DenoiserTrainingConfig(**given)  # type: ignore[arg-type]


def test_devices_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="expected a device, got 'toaster'; try 'cpu'"):
        train(TINY, sample_world_picture, tmp_path, source="testbed", device="toaster")
    with pytest.raises(ModelError, match="expected a CUDA device for device='cuda'"):
        train(TINY, sample_world_picture, tmp_path, source="testbed", device="cuda")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_has_the_range_of_denoisers() -> None:
    values = batch(
        lambda rng: Image.new("L", (9, 5), 255), DenoiserTrainingConfig(side=8, batch=3), np.random.default_rng(0)
    )
    assert values.shape == (3, 3, 8, 8)
    assert bool((values == 1).all())
    assert bool((batch(lambda rng: Image.new("RGB", (9, 5)), TINY, np.random.default_rng(0)) == -1).all())


def test_a_training_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(replace(TINY, steps=1), sample_world_picture, tmp_path / "out", source="testbed", device="cpu")
    assert capfd.readouterr() == ("", "")
