"""What every transform keeps to, whatever it does; `DiffPure` has the same tests with its own, smaller pictures."""

from __future__ import annotations

import json
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch

import equipoise.transforms
from equipoise.errors import UsageError
from equipoise.media.quantize import is_quantized
from equipoise.transforms.base import Identity, Transform
from equipoise.transforms.diffusion import DiffPure
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.feature_squeezing import BitDepth, Median
from equipoise.transforms.geometry import Crop, Resize, ResizeAndPad, Shrink
from equipoise.transforms.jpeg import Jpeg
from equipoise.transforms.noise import Noise
from tests.attacks.fakes import CLEAN
from tests.transforms.tiny_denoiser import drawn

TABLE = (
    Identity(),
    Jpeg(),
    Jpeg(75, 75),
    Resize(),
    Resize(0.75, 0.75),
    Resize(1, 1),
    Crop(),
    Crop(restore=True),
    Crop(0.7, 0.7),
    Crop(1, 1),
    Shrink(),
    Shrink(0.3),
    ResizeAndPad(),
    ResizeAndPad(0.7, 0.7),
    ResizeAndPad(1, 1),
    Noise(),
    Noise(0.1, 0.1),
    Noise(0, 0),
    BitDepth(),
    BitDepth(1),
    Median(),
    Median(5),
)
KEEP_THE_SIZE = (Identity, Jpeg, Shrink, ResizeAndPad, Noise, BitDepth, Median)


def test_the_table_holds_every_transform() -> None:
    classes: set[type] = set()
    for module in iter_modules(equipoise.transforms.__path__):
        members = vars(import_module(f"equipoise.transforms.{module.name}")).values()
        classes |= {member for member in members if isinstance(member, type) and issubclass(member, Transform)}
    assert classes - {Transform, DiffPure} == set(map(type, TABLE))


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_every_transform_is_legal_seeded_and_differentiable(transform: Transform) -> None:
    leaf = CLEAN.clone().requires_grad_(True)
    result = transform(leaf, drawn(1))
    assert result.ndim == 3
    assert result.dtype == CLEAN.dtype
    assert is_quantized(result.detach())
    low, high = result.detach().aminmax()
    assert 0 <= float(low) <= float(high) <= 1
    assert torch.equal(result, transform(leaf, drawn(1)))
    (gradient,) = torch.autograd.grad(result.square().sum(), leaf)
    assert gradient.shape == CLEAN.shape
    assert bool(gradient.isfinite().all())
    # Black places have no gradient here, and the median has some for a share of the others only.
    assert float((gradient != 0).float().mean()) > (0.1 if isinstance(transform, Median | BitDepth) else 0.4)
    assert torch.equal(leaf, CLEAN)


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_two_draws_differ_if_and_only_if_the_transform_says_that_it_is_random(transform: Transform) -> None:
    draws = [transform(CLEAN, drawn(seed)) for seed in range(4)]
    differ = any(draw.shape != draws[0].shape or not torch.equal(draw, draws[0]) for draw in draws)
    assert differ == transform.is_random


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_chance_comes_from_the_generator_alone(transform: Transform) -> None:
    before = torch.random.get_rng_state()
    transform(CLEAN, drawn(1))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_every_transform_takes_the_smallest_picture(transform: Transform) -> None:
    dot = CLEAN[:, :1, :1].clone()
    result = transform(dot, drawn(1))
    assert is_quantized(result)
    assert result.shape == dot.shape


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_the_size_stays_where_nothing_else_is_said(transform: Transform) -> None:
    if isinstance(transform, KEEP_THE_SIZE) or (isinstance(transform, Crop) and transform.restore):
        assert transform(CLEAN, drawn(1)).shape == CLEAN.shape


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_a_description_is_json_and_tells_transforms_apart(transform: Transform) -> None:
    described = transform.describe()
    assert described["transform"] == type(transform).__name__
    assert json.loads(json.dumps(described)) == described
    assert [other for other in TABLE if other.describe() == described] == [transform]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jpeg(0, 50),
        lambda: Jpeg(80, 70),
        lambda: Jpeg(80, 101),
        lambda: Resize(0, 1),
        lambda: Resize(1, 9),
        lambda: Resize(float("nan"), 1),
        lambda: Crop(0.5, 1.1),
        lambda: Crop(0.9, 0.8),
        lambda: Shrink(0),
        lambda: Shrink(1),
        lambda: Shrink(float("nan")),
        lambda: ResizeAndPad(0, 1),
        lambda: ResizeAndPad(0.9, 0.8),
        lambda: ResizeAndPad(0.9, 1.1),
        lambda: Noise(-0.1, 0.1),
        lambda: Noise(0.2, 0.1),
        lambda: Noise(0, 1.1),
        lambda: BitDepth(0),
        lambda: BitDepth(8),
        lambda: Median(1),
        lambda: Median(4),
        lambda: Median(17),
        lambda: EOTConfig(()),
        lambda: EOTConfig(samples=0),
    ],
)
def test_senseless_transforms_are_refused(make: object) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        make()  # type: ignore[operator]
