from __future__ import annotations

from io import BytesIO

import pytest
import torch
from PIL import Image

from equipoise.media.quantize import to_image, to_pixels
from equipoise.transforms.jpeg import LARGEST, Jpeg, surrogate
from tests.attacks.fakes import CLEAN, photo
from tests.transforms.tiny_denoiser import drawn


def coded(picture: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_jpeg_is_what_the_codec_makes() -> None:
    assert torch.equal(Jpeg(75, 75)(CLEAN, drawn(0)), to_pixels(coded(to_image(CLEAN), 75)))


def test_qualities_come_from_the_whole_range_and_no_other() -> None:
    by_quality = {quality: to_pixels(coded(to_image(CLEAN), quality)) for quality in (30, 31, 32)}
    decoded = [Jpeg(30, 32)(CLEAN, drawn(seed)) for seed in range(20)]
    assert all(any(torch.equal(picture, exact) for exact in by_quality.values()) for picture in decoded)
    assert all(any(torch.equal(picture, exact) for picture in decoded) for exact in by_quality.values())


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("size", [(40, 48), (33, 17)])
def test_the_jpeg_surrogate_follows_the_codec(quality: int, size: tuple[int, int]) -> None:
    picture = photo(3, *size)
    read = coded(picture, quality)
    soft = surrogate(to_pixels(picture), *read.quantization.values())  # type: ignore[attr-defined]
    away = (soft - to_pixels(read)).abs() * 255
    harm = (to_pixels(picture) - to_pixels(read)).abs() * 255
    assert float(away.mean()) < 1.2
    assert float(away.mean()) < 0.6 * float(harm.mean())


def test_a_side_that_no_jpeg_holds_is_encoded_in_parts() -> None:
    long = torch.rand(3, 9, LARGEST + 40, generator=torch.Generator().manual_seed(0)).mul_(255).round_().div_(255)
    saved = Jpeg(80, 80)(long, torch.Generator())
    assert saved.shape == long.shape
    assert torch.equal(saved[..., :LARGEST], Jpeg(80, 80)(long[..., :LARGEST], torch.Generator()))
    assert torch.equal(saved[..., LARGEST:], Jpeg(80, 80)(long[..., LARGEST:], torch.Generator()))
