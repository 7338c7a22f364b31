from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Generator, Tensor
from torch.autograd.graph import saved_tensors_hooks

from equipoise.errors import UsageError
from equipoise.media.quantize import eight_bit, is_quantized, to_pixels
from equipoise.transforms.base import interpolate
from equipoise.transforms.denoiser import Denoiser
from equipoise.transforms.diffusion import DiffPure, tile_offsets
from tests.attacks.fakes import photo
from tests.transforms.tiny_denoiser import drawn, ideal, untrained

SIDE = 8
SMALL = to_pixels(photo(0, SIDE, SIDE))
FITS = ("resize", "tile")


def picture(height: int, width: int) -> Tensor:
    return to_pixels(photo(1, width, height))


class Untouched(DiffPure):
    """Does nothing to the squares, so that what is left is how pictures are brought to them."""

    def purify_squares(self, squares: Tensor, random: Generator) -> Tensor:
        return squares * 1


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return untrained(SIDE)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (20, 13), (8, 30), (5, 7), (3, 40), (1, 1)])
def test_a_purified_picture_is_8_bit_and_of_its_old_size(denoiser: Denoiser, fit: str, size: tuple[int, int]) -> None:
    pixels = picture(*size)
    pure = DiffPure(denoiser, 0.1, 2, fit)(pixels, drawn(0))  # type: ignore[arg-type]
    assert pure.shape == pixels.shape
    assert pure.dtype == pixels.dtype
    assert is_quantized(pure)
    assert 0 <= float(pure.min()) <= float(pure.max()) <= 1


@pytest.mark.parametrize("fit", FITS)
def test_the_same_seed_gives_the_same_bytes_and_another_another_picture(denoiser: Denoiser, fit: str) -> None:
    purify = DiffPure(denoiser, fit=fit)  # type: ignore[arg-type]
    pixels = picture(12, 20)
    assert purify.is_random
    assert torch.equal(purify(pixels, drawn(1)), purify(pixels, drawn(1)))
    assert not torch.equal(purify(pixels, drawn(1)), purify(pixels, drawn(2)))


def test_chance_comes_from_the_generator_alone_and_the_picture_stays_as_it_is(denoiser: Denoiser) -> None:
    before = torch.random.get_rng_state()
    leaf = SMALL.clone().requires_grad_(True)
    DiffPure(denoiser)(leaf, drawn(1)).sum().backward()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(leaf, SMALL)
    assert not denoiser.network.training
    assert all(weights.grad is None and not weights.requires_grad for weights in denoiser.network.parameters())


@pytest.mark.parametrize("shade", [0.0, 128 / 255, 1.0])
@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_one_colour_keeps_it_where_the_denoiser_knows_it(shade: float, fit: str) -> None:
    pixels = torch.full((3, 13, 9), shade)
    purify = DiffPure(ideal(torch.full((3, SIDE, SIDE), shade)), fit=fit)  # type: ignore[arg-type]
    assert torch.equal(purify(pixels, drawn(0)), pixels)


@pytest.mark.parametrize("shade", [0.0, 128 / 255, 1.0])
def test_saturated_grounds_have_gradients(denoiser: Denoiser, shade: float) -> None:
    leaf = torch.full((3, SIDE, SIDE), shade, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        DiffPure(denoiser, 0.1, 3).purify_squares(leaf[None], drawn(0)).square().sum(), leaf
    )
    assert bool((gradient != 0).all())


# What noise and denoising do


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("level", "steps"), [(0.1, 5), (0.15, 4), (1, 10)])
def test_a_denoiser_that_knows_the_picture_brings_it_back(prediction: str, level: float, steps: int) -> None:
    harmed = (SMALL + 0.1 * torch.randn(SMALL.shape, generator=drawn(3))).clamp(0, 1)
    purify = DiffPure(ideal(SMALL, prediction=prediction), level, steps)
    assert torch.equal(purify(harmed, drawn(0)), SMALL)


@pytest.mark.parametrize(("level", "steps"), [(0.3, 300), (0.1, 100)])
def test_pictures_of_the_denoisers_own_world_come_out_as_pictures_of_that_world(level: float, steps: int) -> None:
    mean, deviation = SMALL * 0.5 + 0.25, 0.1
    drawn_pictures = mean + deviation * torch.randn(64, *mean.shape, generator=drawn(1))
    pure = DiffPure(ideal(mean, deviation), level, steps).purify_squares(drawn_pictures, drawn(2))
    away = pure - mean
    # Every level is a step, as fewer steps narrow the spread; noise of another strength would change it.
    assert abs(float(away.mean())) < 0.003
    assert abs(float(away.std()) / deviation - 1) < 0.04
    assert float((pure - drawn_pictures).std()) > 0.5 * deviation


def test_the_noise_is_that_of_the_level(monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser) -> None:
    purified: list[tuple[Tensor, int]] = []

    def spy(self: Denoiser, noisy: Tensor, level: int) -> Tensor:
        purified.append((noisy, level))
        return torch.zeros_like(noisy)

    monkeypatch.setattr(Denoiser, "noise", spy)
    grey = torch.full((16, 3, SIDE, SIDE), 0.75)
    DiffPure(denoiser, 0.2, 5).purify_squares(grey, drawn(0))
    assert [level for _, level in purified] == [200, 150, 100, 50, 0]
    kept = float(denoiser.schedule(0.2, 5)[0].alphas_cumprod[200])
    noisy = purified[0][0]
    assert abs(float(noisy.mean()) - 0.5 * kept**0.5) < 0.03
    assert abs(float(noisy.std()) / (1 - kept) ** 0.5 - 1) < 0.03


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_steps_are_those_of_the_ancestral_sampler_of_diffusers(prediction: str) -> None:
    inner = untrained(SIDE)
    model = Denoiser("tiny", "none", inner.network, inner.config | {"prediction_type": prediction})
    # Ten levels of a thousand are 100 apart, so that the last three are 200, 100 and 0.
    scheduler = DDIMScheduler.from_config(model.config, clip_sample=False)
    scheduler.set_timesteps(10)
    random = drawn(4)
    here = SMALL[None] * 2 - 1
    here = scheduler.add_noise(here, torch.randn(here.shape, generator=random), torch.tensor([200]))
    for level in (200, 100, 0):
        noise = torch.randn(here.shape, generator=random)
        here = scheduler.step(model.noise(here, level), level, here, eta=1.0, variance_noise=noise).prev_sample
    result = DiffPure(model, 0.2, 3).purify_squares(SMALL[None], drawn(4))
    assert torch.allclose(result, (here + 1) / 2, atol=1e-5)


def test_more_noise_leaves_less_of_what_the_picture_was() -> None:
    mean = picture(SIDE, SIDE)
    away = 0.1 * torch.randn(16, *mean.shape, generator=drawn(1))
    left = []
    for level in (0.02, 0.1, 0.2, 0.5):
        pure = DiffPure(ideal(mean, 0.1), level, 10).purify_squares(mean + away, drawn(2)) - mean
        left.append(float((pure * away).sum() / (pure.norm() * away.norm())))
    assert 1 > left[0] > left[1] > left[2] > left[3]
    assert left[0] > 0.8
    assert left[3] < 0.1


# Gradients


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("what", ["square", "resize", "tile"])
def test_the_gradient_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, checkpointing: bool, what: str
) -> None:
    # Rounding is set aside here; the next test says that nothing else lies between.
    monkeypatch.setattr("equipoise.transforms.diffusion.eight_bit", lambda pixels: pixels)
    fit = "tile" if what == "tile" else "resize"
    purify = DiffPure(untrained(SIDE, torch.float64), 0.1, 3, fit, checkpointing)  # type: ignore[arg-type]
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "square": lambda pixels: purify.purify_squares(pixels[None], drawn(5)),
        "resize": lambda pixels: purify(pixels, drawn(5)),
        "tile": lambda pixels: purify(pixels, drawn(5)),
    }
    pixels = (picture(SIDE, SIDE) if what == "square" else picture(11, 6)).double().requires_grad_(True)
    # In random directions: all of them take minutes.
    assert torch.autograd.gradcheck(functions[what], (pixels,), eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("fit", FITS)
def test_rounding_is_all_that_lies_between_the_picture_and_the_float_path(denoiser: Denoiser, fit: str) -> None:
    purify = DiffPure(denoiser, 0.1, 3, fit)  # type: ignore[arg-type]
    leaf = picture(13, 10).requires_grad_(True)
    if fit == "tile":
        soft = purify.purify_tiles(leaf, drawn(0))
    else:
        square = interpolate(leaf, (SIDE, SIDE), "bicubic")
        soft = interpolate(purify.purify_squares(square[None], drawn(0))[0], leaf.shape[1:], "bicubic")
    purified = purify(leaf, drawn(0))
    assert torch.equal(purified, eight_bit(soft))
    weights = torch.randn(leaf.shape, generator=drawn(1))
    inside = (soft.detach() >= 0) & (soft.detach() <= 1)
    assert 0.3 < float(inside.float().mean()) < 1
    (expected,) = torch.autograd.grad((soft * weights * inside).sum(), leaf)
    (gradient,) = torch.autograd.grad((purified * weights).sum(), leaf)
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fit", FITS)
def test_checkpointing_changes_neither_the_picture_nor_the_gradient(denoiser: Denoiser, fit: str) -> None:
    result = []
    for checkpointing in (True, False):
        leaf = picture(9, 14).requires_grad_(True)
        purified = DiffPure(denoiser, 0.1, 4, fit, checkpointing)(leaf, drawn(2))  # type: ignore[arg-type]
        result.append((purified.detach(), *torch.autograd.grad(purified.square().sum(), leaf)))
    assert torch.equal(result[0][0], result[1][0])
    assert torch.allclose(result[0][1], result[1][1], rtol=1e-5, atol=1e-7)
    assert float(result[0][1].abs().max()) > 0


def saved_bytes(purify: DiffPure) -> int:
    """Bytes that autograd keeps for the backward pass, each memory once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    leaf = SMALL.clone().requires_grad_(True)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        purified = purify(leaf, drawn(0))
    assert purified.requires_grad
    # Checkpoints hold on to their inputs without telling autograd: the values and the noise of each step.
    return sum(kept.values()) + (purify.steps * 2 * SMALL.nbytes if purify.checkpointing else 0)


def test_checkpointing_keeps_far_less_for_the_backward_pass(denoiser: Denoiser) -> None:
    few, many = (saved_bytes(DiffPure(denoiser, 0.1, steps)) for steps in (3, 9))
    few_whole, many_whole = (saved_bytes(DiffPure(denoiser, 0.1, steps, checkpointing=False)) for steps in (3, 9))
    assert few < few_whole / 5
    assert many < many_whole / 5
    assert many - few < (many_whole - few_whole) / 20


# Which levels, and how pictures are brought to the square


@pytest.mark.parametrize(
    ("level", "steps"),
    [(0.1, 5), (0.15, 5), (0.1, 60), (0.1, 100), (0.3, 3), (0.7, 2), (1, 5), (1, 1000), (0.002, 2), (0.0333, 7)],
)
def test_levels_are_evenly_spaced_from_the_one_asked_for_to_none(denoiser: Denoiser, level: float, steps: int) -> None:
    _, levels = denoiser.schedule(level, steps)
    assert len(levels) == steps
    assert levels[0] == min(999, round(level * 1000))
    assert levels[-1] == 0
    gaps = [high - low for high, low in pairwise(levels)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1


def test_nothing_is_cut_off_at_the_edges_of_the_range_whatever_the_pipeline_says(denoiser: Denoiser) -> None:
    model = Denoiser("tiny", "none", denoiser.network, denoiser.config | {"clip_sample": True, "thresholding": True})
    plain, clipping = (DiffPure(source, 0.1, 3).purify_squares(SMALL[None], drawn(0)) for source in (denoiser, model))
    assert torch.equal(plain, clipping)


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (20, 13), (8, 30), (5, 7), (3, 40), (1, 1)])
def test_tiles_put_a_picture_together_as_it_was(denoiser: Denoiser, size: tuple[int, int]) -> None:
    pixels = picture(*size)
    assert torch.equal(Untouched(denoiser, fit="tile")(pixels, drawn(0)), pixels)


@pytest.mark.parametrize("side", [8, 10, 96])
def test_tiles_reach_from_edge_to_edge_and_overlap_by_a_quarter(side: int) -> None:
    for length in range(side, 5 * side):
        starts = list(tile_offsets(length, side))
        assert starts[0] == 0
        assert starts[-1] == length - side
        assert all(0 < after - before <= side * 3 // 4 for before, after in pairwise(starts))


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_denoisers_size_is_one_square(denoiser: Denoiser, fit: str) -> None:
    purify = DiffPure(denoiser, fit=fit)  # type: ignore[arg-type]
    result = eight_bit(purify.purify_squares(SMALL[None], drawn(0))[0])
    assert float((purify(SMALL, drawn(0)) - result).abs().max()) <= 1 / 255 + 1e-6


def test_half_precision_learned_variances_and_other_schedules_are_taken() -> None:
    for model in (untrained(SIDE, torch.bfloat16), untrained(SIDE, out_channels=6)):
        assert is_quantized(DiffPure(model, 0.1, 2)(SMALL, drawn(0)))
        assert model.noise(SMALL[None], 10).shape == (1, 3, SIDE, SIDE)
        assert model.noise(SMALL[None], 10).dtype == SMALL.dtype
    few = Denoiser("few", "none", untrained(SIDE).network, {"num_train_timesteps": 50, "beta_schedule": "linear"})
    assert few.schedule(0.1, 5)[1] == [5, 4, 2, 1, 0]
    assert is_quantized(DiffPure(few, 0.1, 5)(SMALL, drawn(0)))


def test_a_description_is_json_and_names_the_weights(denoiser: Denoiser) -> None:
    described = DiffPure(denoiser, 0.15, 4, "tile").describe()
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "transform": "DiffPure",
        "level": 0.15,
        "steps": 4,
        "fit": "tile",
        "denoiser": "tiny",
        "revision": "none",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"level": 0},
        {"level": -0.1},
        {"level": 1.01},
        {"level": float("nan")},
        {"level": 0.001},
        {"steps": 1},
        {"steps": 0},
        {"steps": 101},
        {"level": 0.003, "steps": 5},
        {"fit": "stretch"},
    ],
    ids=str,
)
def test_senseless_settings_are_refused(denoiser: Denoiser, settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try") as refused:
        DiffPure(denoiser, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_what_a_refusal_says_to_try_is_taken(denoiser: Denoiser) -> None:
    with pytest.raises(UsageError, match=r"expected 2 to 3 .*; try 3$"):
        DiffPure(denoiser, 0.003, 5)
    assert DiffPure(denoiser, 0.003, 3).steps == 3
