"""`SoftPrompt`: embeddings that stand in the place of a safety prompt, tied to the model that they were made for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.errors import ModelError, UsageError
from equipoise.models.tensor_file import load_with_document, save_with_document
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import Sample

FORMAT: Final = 1
"""Of the JSON document; raised when a reader of the old one would misread it."""


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """Embeddings for the slot of a text in one model."""

    embeddings: Tensor
    """`tokens x width` float32 on the CPU, as the embedding layer returns them."""
    text: str
    """The text that it began as; its slot is as long."""
    model: str
    """Name of the model, as the user wrote it; for messages."""
    revision: str
    """Its exact weights and template; the soft prompt is refused on others."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Settings, losses and anchors of the optimisation, as JSON."""

    def __post_init__(self) -> None:
        """Check the embeddings."""
        rows = self.embeddings.detach().float().cpu()
        if rows.ndim != 2 or not len(rows) or not bool(torch.isfinite(rows).all()):
            raise UsageError(
                f"expected embeddings of finite numbers, tokens x width, got shape {tuple(rows.shape)}; "
                "try a smaller learning rate"
            )
        object.__setattr__(self, "embeddings", rows)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def digest(self) -> str:
        """sha256 of the embeddings, shortened: two soft prompts with the same are the same."""
        return hashlib.sha256(self.embeddings.numpy().tobytes()).hexdigest()[:16]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The requests that it was optimised on, to look for overlaps with a test set."""
        rows = self.details.get("requests", ())
        return tuple(
            Sample(str(i), "anchors", str(text), "refuse" if kind == "harmful" else "answer")
            for i, (kind, text) in enumerate(rows)
        )

    def check_model(self, model: TransformersModel) -> None:
        """Refuse another model.

        Raises:
            ModelError: other weights, another template or another width.
        """
        if model.revision != self.revision or model.embedding_width != self.embeddings.shape[1]:
            raise ModelError(
                f"expected the model that the soft prompt was made for, {self.model} at {self.revision[:19]}, got "
                f"{model.name} at {model.revision[:19]}; try `equipoise prompt optimise` on this model"
            )

    def nearest_tokens(self, model: TransformersModel, count: int = 3) -> list[list[tuple[str, float]]]:
        """For each row the tokens with the nearest embeddings, with their cosines.

        A diagnostic only: what a row does is not what its nearest token says.
        """
        layer = model.model.get_input_embeddings()
        tokenizer = model.processor.tokenizer
        ids = torch.arange(layer.weight.shape[0], device=layer.weight.device)
        with torch.no_grad():
            # Through the layer, not its weights: some families scale what it returns.
            table = functional.normalize(layer(ids[None])[0].float().cpu(), dim=-1)
        cosines = functional.normalize(self.embeddings, dim=-1) @ table.T
        best = cosines.topk(min(count, cosines.shape[1]), dim=1)
        return [
            [(tokenizer.decode([index]), value) for index, value in zip(row, values, strict=True)]
            for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All but the embeddings, as JSON."""
        tokens, width = self.embeddings.shape
        return {
            "format": FORMAT,
            "tokens": tokens,
            "width": width,
            "text": self.text,
            "model": self.model,
            "revision": self.revision,
            "digest": self.digest,
            "details": dict(self.details),
        }

    def save(self, path: str | Path) -> Path:
        """Write `path` (safetensors) and the JSON document beside it.

        Raises:
            OutputError: the files cannot be written.
        """
        return save_with_document(path, {"embeddings": self.embeddings}, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> SoftPrompt:
        """Read what `save` wrote.

        Raises:
            UsageError: a file is missing or damaged, the two do not belong together, or it is no soft prompt.
        """
        tensors, document = load_with_document(path, "a soft prompt", "equipoise prompt optimise")
        if "embeddings" not in tensors or document.get("format") != FORMAT:
            raise UsageError(f"expected a soft prompt in {path}, got something else; try `equipoise prompt optimise`")
        details = document.get("details") or {}
        edited = [name for name in ("text", "model", "revision") if not isinstance(document.get(name), str)]
        edited += [] if _are_details(details) else ["details"]
        if edited:
            raise UsageError(
                f"expected the JSON file of a soft prompt as it was written beside {path}, got another "
                f"{', '.join(edited)}; try the two files of one run"
            )
        return cls(tensors["embeddings"], document["text"], document["model"], document["revision"], details)


def _are_details(details: Any) -> bool:
    """Whether details are an object whose requests, if it has some, are pairs of kind and text."""
    requests = details.get("requests", []) if isinstance(details, dict) else None
    return isinstance(requests, list) and all(
        isinstance(row, list) and len(row) == 2 and all(isinstance(cell, str) for cell in row) for row in requests
    )
