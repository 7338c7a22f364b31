"""From pixels to what a model's tower takes: the stock processor, exact in value and differentiable.

Forward, the value is that of the picture as an 8-bit file holds it, through the processor as it is deployed.
Backward, the gradient is that of the processor run on the float picture (straight-through). The two differ by up to
84/255 on sharp edges, because processors round after resizing; an attack on the float path alone would be measured
on a picture that no model ever sees.

    pixels (float) --to_image--> 8-bit picture --processor--> exact      used as the value
       |                                                                 out = exact + (smooth - smooth.detach())
       +--------- x 255, float --------processor--> smooth               used for the gradient
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from equipoise.errors import EquipoiseError, ModelError, PictureError, UsageError, first_line
from equipoise.media.quantize import to_image
from equipoise.models.chat import picture_marks
from equipoise.models.unreadable import PROGRAM_ERRORS


class DifferentiableProcessor:
    """The differentiable way through one processor."""

    def __init__(self, processor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._processor = processor
        self._device = device
        self._dtype = dtype
        self._picture_part_suffices: dict[Any, bool] = {}

    def __call__(self, pixels: Tensor, other_pictures: Sequence[Image], text: str) -> dict[str, Any]:
        """Image inputs of the model for a prompt whose first picture is `pixels`.

        Args:
            pixels: `3 x H x W` in [0, 1].
            other_pictures: the prompt's further pictures.
            text: the prompt as rendered; used where the processor's picture part alone would give something else.

        Returns:
            The processor's image outputs; the float ones carry the gradient of `pixels` where those require one.

        Raises:
            ModelError: the processor does not pass gradients.
        """
        files = [to_image(pixels), *other_pictures]
        suffices, exact = self._try_picture_part(files, text)
        exact = self._move(exact)
        if not (pixels.requires_grad and torch.is_grad_enabled()):
            return exact
        # Wrapped in a list of pictures, a tensor goes through the same steps as a file would.
        pictures: list[Any] = [pixels * 255, *other_pictures]
        # Some processors read a picture's numbers in the text part only; with text, they fail on a gradient.
        try:
            smooth = self._picture_part(pictures) if suffices else self.image_inputs(pictures, text)
        except (RuntimeError, TypeError, ValueError, PictureError) as error:
            raise self._not_differentiable(first_line(error.__cause__ or error)) from error
        outputs = {key: self._straight_through(value, smooth.get(key)) for key, value in exact.items()}
        if not any(tensor.requires_grad for tensor in float_tensors(outputs)):
            raise self._not_differentiable("its float outputs have no gradient")
        return outputs

    def _try_picture_part(self, files: list[Image], text: str) -> tuple[bool, dict[str, Any]]:
        """Whether the processor's picture part alone gives the image inputs of these pictures, and these inputs.

        It is several times faster than the processor with text, and differentiable in more families. It is compared
        once for each combination of sizes, on which alone the difference (tiles, crops) depends.
        """
        sizes = tuple(picture.size for picture in files)
        if sizes not in self._picture_part_suffices:
            exact = self.image_inputs(files, text)
            self._picture_part_suffices[sizes] = _same(self._picture_part(files, exact), exact)
            return self._picture_part_suffices[sizes], exact
        suffices = self._picture_part_suffices[sizes]
        return suffices, self._picture_part(files) if suffices else self.image_inputs(files, text)

    def seen_pixels(self, picture: Image) -> int:
        """How many pixels of a picture the model receives, those of all tiles together."""
        # Patches may be flattened, so that only the number of values says how many pixels there are.
        return sum(tensor.numel() for tensor in float_tensors(self._picture_part([picture]))) // 3

    def image_inputs(self, pictures: Sequence[Any], text: str) -> dict[str, Any]:
        """Image outputs of the processor called with text and pictures, as it is deployed."""
        outputs = encode(self._processor, [list(pictures)], [text])
        return {key: value for key, value in outputs.items() if key in self.image_input_names}

    @cached_property
    def image_input_names(self) -> frozenset[str]:
        """Names of the image inputs, as the processor's picture part returns them for a grey picture."""
        grey = to_pil_image(torch.full((3, 48, 64), 128, dtype=torch.uint8))
        return frozenset(self._processor.image_processor([[grey]], return_tensors="pt"))

    def _picture_part(self, pictures: Sequence[Any], like: dict[str, Any] | None = None) -> dict[str, Any]:
        """Outputs of the image processor alone; only those that `like` has, where it is given."""
        with picture_errors(self._processor, [list(pictures)]):
            outputs = self._processor.image_processor([list(pictures)], return_tensors="pt")
        return {key: value for key, value in outputs.items() if like is None or key in like}

    def _move(self, value: Any) -> Any:
        return to_device(value, self._device, self._dtype)

    def _straight_through(self, exact: Any, smooth: Any) -> Any:
        """`exact` in value, with the gradient of `smooth`; both tensors, or lists of them."""
        if isinstance(exact, list | tuple):
            if not isinstance(smooth, list | tuple) or len(smooth) != len(exact):
                raise self._not_differentiable("its float and 8-bit outputs differ in form")
            return type(exact)(self._straight_through(*pair) for pair in zip(exact, smooth, strict=True))
        if not isinstance(exact, Tensor) or not exact.is_floating_point():
            return exact
        if not isinstance(smooth, Tensor) or not smooth.requires_grad:
            # Float outputs without a gradient are not pictures (masks, ratios), unless nothing else has one.
            return exact
        if smooth.shape != exact.shape:
            raise self._not_differentiable("its float and 8-bit outputs differ in shape")
        smooth = self._move(smooth)
        # The value is `exact` to the bit: what is added is exactly zero.
        return exact + (smooth - smooth.detach())

    def _not_differentiable(self, why: str) -> ModelError:
        name = type(self._processor.image_processor).__name__
        # Classes of transformers that work on torch tensors are in modules without `_pil` and have a `backend` property
        # or the older suffix `Fast`; only where such a class exists would torchvision help.
        missing = importlib.util.find_spec("torchvision") is None
        advice = (
            "installing torchvision, which brings processors on tensors" if missing else "a family of doctor's list"
        )
        return ModelError(
            f"expected an image processor that passes gradients, got {name} ({why}); the model can be asked but not "
            f"attacked; try {advice}"
        )


@contextmanager
def picture_errors(
    processor: Any, pictures: Sequence[Sequence[Any]] | None, texts: Sequence[str] = ()
) -> Iterator[None]:
    """Turn what a processor raises about pictures into an error of the picture, or of the processor.

    Args:
        processor: of a model.
        pictures: of each text.
        texts: the prompts, where it gets any.

    Raises:
        UsageError: a text has more marks of pictures than pictures.
        PictureError: the processor takes plain grey pictures, so that these are the reason.
        ModelError: it takes no picture at all, or none with text.
    """
    try:
        yield
    except EquipoiseError:
        raise
    except PROGRAM_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        _require_marks(processor, pictures, texts, error)
        first = next((picture for row in pictures or [] for picture in row), None)
        if first is None:
            raise
        line, name = first_line(error), type(processor).__name__
        try:
            _try_grey(processor, pictures or [], texts)
        except PROGRAM_ERRORS:
            raise ModelError(
                f"expected a processor that reads pictures as other models' do, got {name} ({line}); try another model"
            ) from error
        raise PictureError(
            f"expected a picture that {name} takes, got one of {_size(first)} pixels ({line}); "
            "try a copy cut or resized to another shape"
        ) from error


def _try_grey(processor: Any, pictures: Sequence[Sequence[Any]], texts: Sequence[str]) -> None:
    """Call a processor with pictures that it must take, in place of those of the first text that has any.

    Processors raise all kinds of errors about shapes; this tells whose fault one is.
    """
    grey = to_pil_image(torch.full((3, 96, 96), 128, dtype=torch.uint8))
    for row, text in zip(pictures, texts, strict=False):
        if row:
            rows: Any = _arranged(processor, [[grey] * len(row)])
            processor(images=rows, text=[text], return_tensors="pt")
            return
    processor.image_processor([[grey]])


def _require_marks(
    processor: Any, pictures: Sequence[Sequence[Any]] | None, texts: Sequence[str], error: Exception
) -> None:
    """Blame a text for an error where its marks of pictures do not fit its pictures."""
    marks, name = picture_marks(processor), type(processor).__name__
    for text, row in zip(texts, pictures or [[]] * len(texts), strict=False):
        counts = [text.count(mark) for mark in marks]
        if any(count > len(row) for count in counts):
            mark = marks[[count > len(row) for count in counts].index(True)]
            raise UsageError(
                f"expected a text without {mark}, which stands for a picture with {name}, got {max(counts)} of them "
                f"for {len(row)} pictures; try without it"
            ) from error
        # Some processors put the mark in front themselves: only one that says so misses it.
        if row and not any(counts) and any(mark in str(error) for mark in marks):
            raise ModelError(
                f"expected a chat template that writes pictures, got one that leaves them out with {name} "
                f"({first_line(error)}); try the chat_template.jinja of the model's release, or --chat-template FILE"
            ) from error


def _size(picture: Any) -> str:
    """Width and height of a PIL image or of `... x H x W` pixels."""
    return "{} x {}".format(*(picture.size if isinstance(picture, Image) else tuple(picture.shape[-2:])[::-1]))


def float_tensors(value: Any) -> list[Tensor]:
    """All float tensors of image inputs, also those in lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value] * value.is_floating_point()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in inner for tensor in float_tensors(part)]


def to_device(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Tensors on the model's device, floats in its precision; also those in lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, dict):
        return {key: to_device(inner, device, dtype) for key, inner in value.items()}
    return type(value)(to_device(inner, device, dtype) for inner in value) if isinstance(value, list | tuple) else value


def encode(processor: Any, pictures: list[list[Any]] | None, texts: list[str], **options: Any) -> dict[str, Any]:
    """The processor's outputs for texts with their pictures, without special tokens that are there already.

    The choice is one for the whole batch. Where some texts begin with the token and others do not, it is written in
    front of those, if the tokenizer would; see `begins_with_bos` for batches in which all texts are alike.
    """
    begun = [begins_with_bos(processor, text) for text in texts]
    if any(begun):
        options["add_special_tokens"] = False
    if any(begun) and not all(begun) and _adds_bos(processor.tokenizer):
        bos = processor.tokenizer.bos_token
        texts = [text if has else f"{bos}{text}" for text, has in zip(texts, begun, strict=True)]
    images = None if pictures is None else _arranged(processor, pictures)
    with picture_errors(processor, pictures, texts):
        return dict(processor(images=images, text=texts, return_tensors="pt", **options))


def _arranged(processor: Any, pictures: list[list[Any]]) -> list[Any]:
    """The pictures of each text as a processor takes them: some take one list for all texts."""
    return [picture for row in pictures for picture in row] if hasattr(processor, "num_query_tokens") else pictures


def begins_with_bos(processor: Any, text: str) -> bool:
    """Whether a text begins with the token that its tokenizer begins texts with."""
    bos = processor.tokenizer.bos_token
    return bos is not None and text.startswith(bos)


def _adds_bos(tokenizer: Any) -> bool:
    return bool(tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id])


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(type(first) is type(second) and first == second)
