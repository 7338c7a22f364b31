"""Batches of labelled rows, with pictures or without, for any model of `load`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.errors import UsageError
from equipoise.models.differentiable_processor import to_device
from equipoise.models.reply_log_probs import concatenate_images, pad_right, same_shape
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.causal_lm import IGNORED
from equipoise.training.derta.labels import DertaLabels
from equipoise.types import Prompt

FORMS: Final = ("refuse", "turn", "answer")
"""The forms of a use, as `DertaBatch.forms` numbers them."""


@dataclass(frozen=True)
class DertaBatch:
    """Rows with as many pictures each, padded on the right; padding is neither attended to nor learned."""

    inputs: Mapping[str, Any]
    """Keyword arguments of the model's forward pass."""
    labels: Tensor
    """`rows x length` token ids, `IGNORED` where nothing is learned. Not shifted, as transformers takes them."""
    openers: Tensor
    """`rows x length`: `WANTED`, `UNWANTED` or 0."""
    forms: Tensor
    """`rows`: index into `FORMS`."""
    prompt_lengths: Tensor
    """`rows`: tokens of each prompt."""

    def to(self, device: torch.device) -> DertaBatch:
        """The batch on a device."""
        inputs = {name: to_device(value, device, _dtype(value)) for name, value in self.inputs.items()}
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "inputs"}
        return replace(self, inputs=inputs, **moved)


@dataclass(frozen=True)
class DertaItem:
    """A labelled row, and where its pictures come from."""

    labels: DertaLabels
    """Tokens and labels."""
    prompt: Callable[[], Prompt]
    """Opens the prompt with its pictures; called when its batch is made, so that a file of rows is never in memory."""
    pictures: int
    """How many pictures the prompt has."""


class DertaCollator:
    """Makes batches of labelled rows.

    Rows of different numbers of pictures, or of tiles, cannot share a forward pass in every family, so that each number
    has a batch of its own within the step; the loss is a mean over all of them.

    Args:
        model: whose processor reads the pictures.
        one_batch: whether a step must be one forward pass, as of a sharded model, in which all processes take part.
    """

    def __init__(self, model: TransformersModel, *, one_batch: bool = False) -> None:
        self._model, self._one_batch = model, one_batch
        tokenizer = model.processor.tokenizer
        self._padding = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    def __call__(self, items: Sequence[DertaItem]) -> dict[str, DertaBatch]:
        """One batch for each number of pictures and each shape of their inputs, by a name that says it.

        Raises:
            UsageError: there are several where only one may be.
        """
        batches: dict[str, DertaBatch] = {}
        for count in sorted({item.pictures for item in items}):
            rows = [item for item in items if item.pictures == count]
            # Pictures are opened here, when their batch is made, and not when the rows are read: a file of rows may
            # have thousands.
            images = [self._model.image_inputs(row.prompt()) if count else {} for row in rows]
            for number, indices in enumerate(same_shape(images)):
                name = f"{count} pictures" + (f", shape {number + 1}" if number else "")
                batches[name] = self._batch([rows[i] for i in indices], [images[i] for i in indices])
        if self._one_batch and len(batches) > 1:
            raise UsageError(
                f"expected pictures of one shape for FSDP, got {len(batches)} in one step; try torchrun without FSDP, "
                "or pictures of one size"
            )
        return batches

    def _batch(self, items: Sequence[DertaItem], images: Sequence[Mapping[str, Any]]) -> DertaBatch:
        rows = [item.labels for item in items]
        encoded = [row.encoded for row in rows]
        lengths = [len(row) for row in rows]
        inputs: dict[str, Any] = {
            "input_ids": _padded([row.tokens.tolist() for row in encoded], self._padding),
            "attention_mask": _padded([[1] * length for length in lengths], 0),
        }
        for name in encoded[0].token_inputs:
            inputs[name] = pad_right([row.token_inputs[name] for row in encoded])
        for name in encoded[0].text_inputs:
            inputs[name] = pad_right([row.text_inputs[name] for row in encoded])
        if items[0].pictures:
            inputs |= to_device(concatenate_images(images), torch.device("cpu"), self._model.model.dtype)
        return DertaBatch(
            inputs=inputs,
            labels=_padded([list(row.labels) for row in rows], IGNORED),
            openers=_padded([list(row.openers) for row in rows], 0),
            forms=torch.tensor([FORMS.index(row.form) for row in rows]),
            prompt_lengths=torch.tensor([row.prompt_length for row in encoded]),
        )


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers as one tensor, filled up on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def _dtype(value: Any) -> torch.dtype:
    """The precision that a value has already; lists of pictures have that of their first."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first.dtype if isinstance(first, Tensor) and first.is_floating_point() else torch.float32
