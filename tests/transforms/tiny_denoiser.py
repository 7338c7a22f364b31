"""Denoisers for tests: an untrained network, and the ideal ones of a known picture and of a known distribution."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Generator, Tensor, nn

from equipoise.transforms.denoiser import Denoiser


def drawn(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def network(side: int = 8, seed: int = 0, **settings: Any) -> UNet2DModel:
    """A small untrained network whose halvings, skips and attention are those of large ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=side,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            norm_num_groups=4,
            attention_head_dim=8,
            **{"layers_per_block": 1, **settings},
        )


def untrained(side: int = 8, dtype: torch.dtype = torch.float32, **settings: Any) -> Denoiser:
    """A denoiser that finds noise where there is none."""
    weights = network(side, **settings).to(dtype).eval().requires_grad_(False)
    return Denoiser("tiny", "none", weights, dict(DDPMScheduler().config))


class _Ideal(nn.Module):
    """The best guess where every value is drawn around `mean`, by itself, with one standard deviation."""

    def __init__(self, mean: Tensor, deviation: float, prediction: str) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean * 2 - 1, requires_grad=False)
        self.variance = (2 * deviation) ** 2
        self.prediction = prediction
        self.config = SimpleNamespace(sample_size=mean.shape[-1])
        self.kept = DDPMScheduler().alphas_cumprod.double()

    def forward(self, noisy: Tensor, level: int) -> SimpleNamespace:
        kept = float(self.kept[level])
        away = noisy - kept**0.5 * self.mean
        noise = (1 - kept) ** 0.5 * away / (kept * self.variance + 1 - kept)
        clean = self.mean + kept**0.5 * self.variance * away / (kept * self.variance + 1 - kept)
        velocity = kept**0.5 * noise - (1 - kept) ** 0.5 * clean
        return SimpleNamespace(sample={"epsilon": noise, "sample": clean, "v_prediction": velocity}[self.prediction])


def ideal(mean: Tensor, deviation: float = 0.0, prediction: str = "epsilon") -> Denoiser:
    """The denoiser of one `3 x side x side` picture or, with a deviation, of those around it."""
    config = dict(DDPMScheduler(prediction_type=prediction).config)
    return Denoiser("ideal", "none", _Ideal(mean, deviation, prediction), config)
