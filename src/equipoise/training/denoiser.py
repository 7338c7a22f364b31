"""Training of a small unconditional denoiser (DDPM, Ho et al. 2020, arXiv:2006.11239) for purification.

The network and the noise schedule are those of diffusers, so that the result is a `DDPMPipeline` folder like any
other. The loss is the mean squared error of the predicted noise (equation 14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from equipoise.errors import MissingExtraError, UsageError
from equipoise.models.load import find_device
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.supervised_training import require_rate
from equipoise.transforms.denoiser import quiet_diffusers

TRAINING_STEPS = 1000
"""Noise levels of the schedule."""
SamplePicture = Callable[[np.random.Generator], Image.Image]
"""Returns a picture to learn from; the generator is the only source of randomness."""


@dataclass(frozen=True)
class DenoiserTrainingConfig:
    """Everything that decides the weights, beside the pictures."""

    side: int = 96
    """Pictures are resized to this square; purification works at this size, too."""
    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Width of the network at each halving of the side."""
    steps: int = 2600
    """Optimiser steps."""
    batch: int = 16
    """Pictures in a step."""
    learning_rate: float = 1e-3
    """Peak, after the warm-up; cosine decay to a hundredth."""
    warmup: int = 100
    """Steps."""
    low_share: float = 0.7
    """Share of the pictures whose noise level is drawn from the lowest 300 of 1000: purification needs no others."""
    average: float = 0.995
    """Decay of the moving average of the weights that is saved."""
    seed: int = 0
    """Of the initialisation and of every step."""

    def __post_init__(self) -> None:
        halvings = 2 ** (len(self.channels) - 1)
        if not self.channels or self.side < 1 or self.side % halvings:
            raise UsageError(
                f"expected a side that can be halved {len(self.channels) - 1} times, got {self.side}; try 96"
            )
        require_rate(self.learning_rate)
        if self.steps < 1 or self.batch < 1:
            raise UsageError(f"expected at least 1 step of 1 picture, got {self.steps} of {self.batch}; try 2600 of 16")


def train(
    recipe: DenoiserTrainingConfig,
    sample_picture: SamplePicture,
    out: Path,
    *,
    source: str,
    device: str | None = None,
    checkpoint_every: int = 200,
    progress: Progress | None = None,
) -> Path:
    """Train and save a denoiser; a second call after a kill goes on from the last checkpoint.

    Args:
        recipe: what to train and how.
        sample_picture: returns the pictures.
        out: folder for the checkpoint and, in `model`, the pipeline.
        source: what `sample_picture` takes pictures from; part of the recipe.
        device: `cpu` or `cuda`; by default a GPU if there is one.
        checkpoint_every: steps between checkpoints.
        progress: called after every step.

    Returns:
        The folder of the `DDPMPipeline`, weights in bfloat16.

    Raises:
        MissingExtraError: diffusers is not installed.
        UsageError: `out` holds a checkpoint of another recipe, or there is no such device.
        ModelError: `cuda` without one.
    """
    try:
        import diffusers
        from diffusers.training_utils import EMAModel
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[diffusion]'") from error
    compute = find_device(device)
    with seeded(recipe.seed):
        network = build(recipe).to(compute, memory_format=torch.channels_last).train()
    library: Any = diffusers
    schedule = library.DDPMScheduler(num_train_timesteps=TRAINING_STEPS)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    # The moving average is what is saved: single weights still jump about at the end of so short a training.
    averaged = EMAModel(network.parameters(), decay=recipe.average)
    averaged.to(compute)
    rate = LearningRate([optimiser], recipe.steps, recipe.warmup)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        rng = np.random.default_rng([recipe.seed, 31, number])
        clean = batch(sample_picture, recipe, rng).to(compute, memory_format=torch.channels_last)
        random = torch.Generator().manual_seed(int(rng.integers(2**62)))
        # Drawn on the CPU, so that the device does not change what is drawn.
        noise = torch.randn(clean.shape, generator=random).to(clean)
        levels = _noise_levels(recipe, random).to(compute)
        with torch.autocast(compute.type, torch.bfloat16):
            predicted = network(schedule.add_noise(clean, noise, levels), levels).sample
        # Equation 14 of DDPM: the network predicts the noise, with equal weight for all levels. The loss is in float32,
        # as the squares of small errors vanish in bfloat16.
        loss = functional.mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        averaged.step(network.parameters())
        return {"loss": float(loss.detach())}

    full_recipe = {**asdict(recipe), "channels": list(recipe.channels), "source": source}
    state: dict[str, Any] = {"network": network, "optimiser": optimiser, "average": _MovingAverage(averaged, compute)}
    TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every).run(step, state, progress)
    averaged.copy_to(network.parameters())
    folder = out / "model"
    with quiet_diffusers():
        library.DDPMPipeline(network.eval().to(torch.bfloat16), schedule).save_pretrained(folder)
    return folder


def build(recipe: DenoiserTrainingConfig) -> Any:
    """A freshly initialised `UNet2DModel`."""
    from diffusers import UNet2DModel

    levels = len(recipe.channels)
    return UNet2DModel(
        sample_size=recipe.side,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=32,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
    )


def batch(sample_picture: SamplePicture, recipe: DenoiserTrainingConfig, rng: np.random.Generator) -> Tensor:
    """Pictures as `B x 3 x side x side` in `[-1, 1]`, as denoisers take them."""
    size = (recipe.side, recipe.side)
    pictures = [sample_picture(rng).convert("RGB").resize(size, Image.Resampling.BICUBIC) for _ in range(recipe.batch)]
    values = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return values.permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class _MovingAverage:
    """A moving average whose weights go back to their device: EMAModel leaves them where the checkpoint had them."""

    average: Any
    """diffusers' `EMAModel`."""
    device: torch.device
    """Of the network."""

    def state_dict(self) -> dict[str, Any]:
        return dict(self.average.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average.load_state_dict(state)
        self.average.to(self.device)


def _noise_levels(recipe: DenoiserTrainingConfig, random: torch.Generator) -> Tensor:
    """A noise level for each picture [B], most of them among the lowest three tenths."""
    low = torch.rand(recipe.batch, generator=random) < recipe.low_share
    most = torch.where(low, int(0.3 * TRAINING_STEPS), TRAINING_STEPS)
    return (torch.rand(recipe.batch, generator=random) * most).long()
