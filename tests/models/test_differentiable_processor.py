from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.differentiable_processor import DifferentiableProcessor, check_pixels, eight_bit
from equipoise.models.hf import HuggingFaceModel


def stock(model: HuggingFaceModel, picture: Image.Image) -> Tensor:
    return model.processor(images=picture, text="<image>", return_tensors="pt")["pixel_values"]


def test_forward_is_the_stock_processor_on_the_file_to_the_bit(model: HuggingFaceModel, pixels: Tensor) -> None:
    leaf = (pixels + 0.3 / 255).clamp(0, 1).requires_grad_()
    found = model.pixel_path(leaf, (), "<image>")["pixel_values"]
    assert found.requires_grad
    assert torch.equal(found.detach(), stock(model, eight_bit(leaf)))


def test_backward_is_the_processor_on_the_float_picture(model: HuggingFaceModel, pixels: Tensor) -> None:
    leaf = pixels.clone().requires_grad_()
    found = model.pixel_path(leaf, (), "<image>")["pixel_values"]
    smooth = model.processor.image_processor([leaf * 255], return_tensors="pt")["pixel_values"]
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    one, other = (torch.autograd.grad(value, leaf, direction)[0] for value in (found, smooth))
    assert one.abs().sum() > 0
    torch.testing.assert_close(one, other)


def test_without_gradient_nothing_is_differentiated(model: HuggingFaceModel, pixels: Tensor) -> None:
    assert not model.pixel_path(pixels, (), "<image>")["pixel_values"].requires_grad


def test_rounds_like_a_file(pixels: Tensor) -> None:
    again = torch.from_numpy(__import__("numpy").asarray(eight_bit(pixels + 0.4 / 255)).copy()).permute(2, 0, 1) / 255
    assert torch.equal(again, pixels.clamp(max=1)) or float((again - pixels).abs().max()) <= 1 / 255 + 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 4, 4),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 255.0),
        torch.full((3, 4, 4), -0.1),
        torch.full((3, 4, 4), torch.nan),
        torch.zeros(3, 0, 4),
    ],
)
def test_what_is_no_pixels_is_said_in_one_line(wrong: Tensor) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got .*; try [^\n]*$"):
        check_pixels(wrong)


class Breaking:
    """A processor whose picture part works on numbers that gradients do not reach."""

    def __init__(self, processor: object) -> None:
        self._processor = processor
        self.tokenizer = processor.tokenizer

    def __call__(self, **inputs: object) -> object:
        return self._processor(**inputs)

    def image_processor(self, pictures: list[list[object]], **options: object) -> object:
        if any(isinstance(picture, Tensor) for row in pictures for picture in row):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self._processor.image_processor(pictures, **options)


def test_a_processor_without_gradients_is_named(model: HuggingFaceModel, pixels: Tensor) -> None:
    path = DifferentiableProcessor(Breaking(model.processor), torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match="passes gradients"):
        path(pixels.clone().requires_grad_(), (), "<image>")
