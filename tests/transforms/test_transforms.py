from __future__ import annotations

from io import BytesIO

import pytest
import torch
from PIL import Image
from torch import Generator

from attacks.world import CLEAN, photo
from equipoise.attacks.budgets import is_snapped
from equipoise.data.pictures import to_image, to_pixels
from equipoise.errors import UsageError
from equipoise.transforms.base import Plain, Transform
from equipoise.transforms.expectation import Expectation
from equipoise.transforms.geometry import Crop, Resize
from equipoise.transforms.jpeg import Jpeg, surrogate
from equipoise.transforms.noise import Noise

TABLE = (Plain(), Jpeg(), Jpeg(75, 75), Resize(), Resize(0.75, 0.75), Crop(), Crop(restore=True), Noise())


def drawn(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("transform", TABLE, ids=repr)
def test_every_transform_is_legal_seeded_and_differentiable(transform: Transform) -> None:
    leaf = CLEAN.clone().requires_grad_(True)
    seen = transform(leaf, drawn(1))
    assert seen.ndim == 3
    assert is_snapped(seen.detach())
    low, high = seen.detach().aminmax()
    assert 0 <= float(low) <= float(high) <= 1
    assert torch.equal(seen, transform(leaf, drawn(1)))
    (gradient,) = torch.autograd.grad(seen.square().sum(), leaf)
    assert gradient.shape == CLEAN.shape
    assert bool(gradient.isfinite().all())
    assert float((gradient != 0).float().mean()) > 0.4
    assert transform.describe()["transform"] == type(transform).__name__


@pytest.mark.parametrize("transform", [Jpeg(), Resize(), Crop(), Noise()], ids=repr)
def test_chance_changes_the_result(transform: Transform) -> None:
    one, other = transform(CLEAN, drawn(1)), transform(CLEAN, drawn(2))
    assert one.shape != other.shape or not torch.equal(one, other)


def test_jpeg_is_what_the_codec_makes() -> None:
    buffer = BytesIO()
    to_image(CLEAN).save(buffer, "JPEG", quality=75)
    assert torch.equal(Jpeg(75, 75)(CLEAN, drawn(0)), to_pixels(Image.open(buffer)))


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("size", [(40, 48), (33, 17)])
def test_the_jpeg_surrogate_follows_the_codec(quality: int, size: tuple[int, int]) -> None:
    picture = photo(3, *size)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    read = Image.open(buffer)
    soft = surrogate(to_pixels(picture), *read.quantization.values())
    away = (soft - to_pixels(read)).abs() * 255
    harm = (to_pixels(picture) - to_pixels(read)).abs() * 255
    assert float(away.mean()) < 1.2
    assert float(away.mean()) < 0.6 * float(harm.mean())


def test_resize_and_crop_change_the_size_as_asked() -> None:
    assert Resize(0.75, 0.75)(CLEAN, drawn(0)).shape == (3, 36, 30)
    assert Crop(0.5, 0.5)(CLEAN, drawn(0)).shape == (3, 24, 20)
    assert Crop(0.5, 0.5, restore=True)(CLEAN, drawn(0)).shape == CLEAN.shape
    assert Resize(0.001, 0.001)(CLEAN, drawn(0)).shape == (3, 1, 1)


def test_a_step_draws_without_repetition_as_far_as_the_transforms_reach() -> None:
    expectation = Expectation(TABLE[1:5], samples=6)
    for seed in range(5):
        found = expectation.draw(drawn(seed))
        assert isinstance(found[0], Plain)
        assert len(found) == 7
        assert len(set(map(repr, found[1:5]))) == 4
    assert len(Expectation(samples=2, plain=False).draw(drawn(0))) == 2
    assert expectation.draw(drawn(1)) == expectation.draw(drawn(1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jpeg(0, 50),
        lambda: Jpeg(80, 70),
        lambda: Jpeg(80, 101),
        lambda: Resize(0, 1),
        lambda: Resize(1, 9),
        lambda: Crop(0.5, 1.1),
        lambda: Noise(-0.1, 0.1),
        lambda: Expectation(()),
        lambda: Expectation(samples=0),
    ],
)
def test_senseless_transforms_are_refused(make: object) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
        make()  # type: ignore[operator]
