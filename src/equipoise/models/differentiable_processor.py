"""From pixels to what a model's tower takes: the stock processor, exact in value and differentiable.

Forward, the value is that of the picture as an 8-bit file holds it, through the processor as it is deployed.
Backward, the gradient is that of the processor run on the float picture (straight-through). The two differ by up to
84/255 on sharp edges, because processors round after resizing; an attack on the float path alone would be measured
on a picture that no model ever sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from equipoise.errors import ModelError
from equipoise.media.quantize import to_image


class DifferentiableProcessor:
    """The differentiable way through one processor."""

    def __init__(self, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._processor = processor
        self._device = device
        self._dtype = dtype
        self._direct: dict[Any, bool] = {}

    def __call__(self, pixels: Tensor, others: Sequence[Image], text: str) -> dict[str, Any]:
        """Image inputs of the model for a prompt whose first picture is `pixels`.

        Args:
            pixels: `3 x H x W` in [0, 1].
            others: the prompt's further pictures.
            text: the prompt as rendered; used where the processor's picture part alone would give something else.

        Returns:
            The processor's image outputs; the float ones carry the gradient of `pixels` where those require one.

        Raises:
            ModelError: the processor does not pass gradients.
        """
        saved = to_image(pixels)
        whole = None
        size = (tuple(pixels.shape), tuple(picture.size for picture in others))
        if size not in self._direct:
            whole = self.full([saved, *others], text)
            self._direct[size] = _same(self._only_pictures([saved, *others], whole), whole)
        direct = self._direct[size]
        if whole is None:
            files = [saved, *others]
            whole = self._only_pictures(files) if direct else self.full(files, text)
        whole = self.to_device(whole)
        if not (pixels.requires_grad and torch.is_grad_enabled()):
            return whole
        # Wrapped in a list of pictures, a tensor goes through the same steps as a file would.
        pictures: list[Any] = [pixels * 255, *others]
        # Some processors look at a picture's numbers only in the text part; `full` then fails on a gradient.
        try:
            soft = self._only_pictures(pictures) if direct else self.full(pictures, text)
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._not_differentiable(str(error)) from error
        return {key: self._straight_through(value, soft.get(key)) for key, value in whole.items()}

    def full(self, pictures: Sequence[Any], text: str) -> dict[str, Any]:
        """Image outputs of the processor called with text and pictures, as it is deployed."""
        return {key: value for key, value in self.encode(pictures, text).items() if key in self.keys}

    def encode(self, pictures: Sequence[Any], text: str) -> dict[str, Any]:
        """All outputs of the processor for one prompt."""
        return encode(self._processor, [list(pictures)] if pictures else None, [text])

    @property
    def keys(self) -> frozenset[str]:
        """Names of the image outputs."""
        if not hasattr(self, "_keys"):
            blank = to_pil_image(torch.full((3, 48, 64), 128, dtype=torch.uint8))
            self._keys = frozenset(self._processor.image_processor([[blank]], return_tensors="pt"))
        return self._keys

    def to_device(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Inputs on the model's device, floats in its precision."""
        return {key: self._moved(value) for key, value in inputs.items()}

    def _only_pictures(self, pictures: Sequence[Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
        outputs = self._processor.image_processor([list(pictures)], return_tensors="pt")
        return {key: value for key, value in outputs.items() if like is None or key in like}

    def _moved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self._device, self._dtype if value.is_floating_point() else value.dtype)
        return type(value)(map(self._moved, value)) if isinstance(value, list | tuple) else value

    def _straight_through(self, hard: Any, soft: Any) -> Any:
        if isinstance(hard, list | tuple):
            if not isinstance(soft, list | tuple) or len(soft) != len(hard):
                raise self._not_differentiable("its float and 8-bit outputs differ in form")
            return type(hard)(self._straight_through(*pair) for pair in zip(hard, soft, strict=True))
        if not isinstance(hard, Tensor) or not hard.is_floating_point():
            return hard
        if not isinstance(soft, Tensor) or not soft.requires_grad:
            # Float outputs without a gradient are not pictures (masks, ratios), unless nothing else has one.
            return hard
        if soft.shape != hard.shape:
            raise self._not_differentiable("its float and 8-bit outputs differ in shape")
        soft = self._moved(soft)
        # The value is exactly `hard`: what is added is exactly zero.
        return hard + (soft - soft.detach())

    def _not_differentiable(self, why: str) -> ModelError:
        name = type(self._processor.image_processor).__name__
        line = why.splitlines()[0] if why else "unknown"
        return ModelError(
            f"expected an image processor that passes gradients, got {name} ({line}); "
            "try loading the model with torchvision installed, which brings the fast processors"
        )


def encode(processor: Any, pictures: list[list[Any]] | None, texts: list[str], **options: Any) -> dict[str, Any]:
    """The processor's outputs for texts with their pictures, without special tokens that are there already."""
    bos = processor.tokenizer.bos_token
    if bos is not None and texts[0].startswith(bos):
        options["add_special_tokens"] = False
    flat = hasattr(processor, "num_query_tokens") and pictures is not None
    images: Any = [picture for row in pictures or [] for picture in row] if flat else pictures
    return dict(processor(images=images, text=texts, return_tensors="pt", **options))


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(type(first) is type(second) and first == second)
