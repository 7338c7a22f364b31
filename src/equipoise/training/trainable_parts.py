"""Which weights of an image-text-to-text model learn: vision tower, projector, language model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from torch import nn

from equipoise.errors import UsageError
from equipoise.training.lora import add_adapters

PARTS: Final = ("vision", "projector", "language")
_PROJECTOR: Final = re.compile(
    r"projector|connector|merger|qformer|query_tokens|language_projection|resampler|aligner|image_newline"
    # Names in Phi-4-multimodal.
    r"|img_projection|img_feature_extensor"
)
_VISION: Final = re.compile(r"vision|visual|image_tower|image_encoder|image_embed")
_AUDIO: Final = re.compile(r"audio|speech")


def part_of(name: str) -> str:
    """The part that a parameter belongs to, by its name; `language` is everything outside tower and projector."""
    if _AUDIO.search(name):
        return "language"
    # Before the tower: some families keep the projector inside it (`visual.merger`).
    if _PROJECTOR.search(name):
        return "projector"
    return "vision" if _VISION.search(name) else "language"


def require_parts(parts: Sequence[str]) -> None:
    """Raise `UsageError` unless `parts` are some of `PARTS`."""
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        given = ", ".join(sorted(unknown)) or "none"
        raise UsageError(f"expected parts of {', '.join(PARTS)}, got {given}; try vision,projector")


@contextmanager
def gradient_flags_restored(model: nn.Module) -> Iterator[None]:
    """`requires_grad` of every weight of `model` is afterwards what it was before."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)


def choose_learners(model: nn.Module, parts: Sequence[str], rank: int | None) -> Any:
    """The model with gradients for the chosen weights alone, or with low-rank adapters beside them.

    Args:
        model: a transformers model.
        parts: of `PARTS`.
        rank: of the adapters; None trains the weights themselves.

    Raises:
        UsageError: no such part in the model, or nothing to adapt in it.
        MissingExtraError: `rank` without peft.
    """
    require_parts(parts)
    if rank is None:
        chosen = {
            name
            for name, parameter in model.named_parameters()
            if part_of(name) in parts and parameter.is_floating_point()
        }
        if not chosen:
            raise UsageError(f"expected weights of {', '.join(parts)} in the model, got none; try --parts language")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return model
    linear = [
        name
        for name, module in model.named_modules()
        # The output layer often shares its weights with the token embeddings, which a merge would change as well.
        if isinstance(module, nn.Linear) and part_of(name) in parts and "lm_head" not in name
    ]
    if not linear:
        raise UsageError(f"expected linear layers of {', '.join(parts)} in the model, got none; try --parts language")
    return add_adapters(model, rank, layers=linear)
