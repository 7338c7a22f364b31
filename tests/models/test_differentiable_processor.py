from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.media.quantize import to_image
from equipoise.models.differentiable_processor import DifferentiableProcessor
from equipoise.models.hf import HuggingFaceModel


def stock(model: HuggingFaceModel, picture: Image.Image) -> Tensor:
    return model.processor(images=picture, text="<image>", return_tensors="pt")["pixel_values"]


def test_forward_is_the_stock_processor_on_the_file_to_the_bit(model: HuggingFaceModel, pixels: Tensor) -> None:
    leaf = (pixels + 0.3 / 255).clamp(0, 1).requires_grad_()
    values = model.differentiable_processor(leaf, (), "<image>")["pixel_values"]
    assert values.requires_grad
    assert torch.equal(values.detach(), stock(model, to_image(leaf)))


def test_backward_is_the_processor_on_the_float_picture(model: HuggingFaceModel, pixels: Tensor) -> None:
    leaf = pixels.clone().requires_grad_()
    values = model.differentiable_processor(leaf, (), "<image>")["pixel_values"]
    smooth = model.processor.image_processor([leaf * 255], return_tensors="pt")["pixel_values"]
    direction = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    one, other = (torch.autograd.grad(value, leaf, direction)[0] for value in (values, smooth))
    assert one.abs().sum() > 0
    torch.testing.assert_close(one, other)


def test_without_gradient_nothing_is_differentiated(model: HuggingFaceModel, pixels: Tensor) -> None:
    assert not model.differentiable_processor(pixels, (), "<image>")["pixel_values"].requires_grad


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
