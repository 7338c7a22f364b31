from __future__ import annotations

import pytest
import torch

from equipoise.transforms.noise import Noise
from tests.transforms.tiny_denoiser import drawn

GREY = torch.full((3, 64, 64), 128 / 255)


@pytest.mark.parametrize("strength", [0.02, 0.1])
def test_noise_has_the_strength_asked_for(strength: float) -> None:
    away = Noise(strength, strength)(GREY, drawn(0)) - GREY
    assert abs(float(away.mean())) < 0.05 * strength
    assert abs(float(away.std()) / strength - 1) < 0.05


def test_strengths_come_from_the_whole_range_and_no_other() -> None:
    deviations = torch.stack([(Noise(0.02, 0.08)(GREY, drawn(seed)) - GREY).std() for seed in range(60)])
    assert 0.019 < float(deviations.min()) < 0.03
    assert 0.07 < float(deviations.max()) < 0.082


def test_no_noise_changes_nothing() -> None:
    assert torch.equal(Noise(0, 0)(GREY, drawn(0)), GREY)


def test_the_gradient_passes_where_nothing_is_clipped() -> None:
    white = torch.ones(3, 16, 16, requires_grad=True)
    noisy = Noise(0.1, 0.1)(white, drawn(0))
    (gradient,) = torch.autograd.grad(noisy.sum(), white)
    assert set(gradient.unique().tolist()) == {0, 1}
    assert bool((gradient[noisy < 1] == 1).all())
