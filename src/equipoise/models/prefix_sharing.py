"""Whether a model's prefix can be shared: rules on its settings, then one comparison with the plain batch.

The comparison is what makes sharing safe for families that nobody has tried: a model whose attention differs in a way
that no rule foresees gives other numbers, and is then run as a plain batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import first_line
from equipoise.models.attention import IMPLEMENTATION, CannotShareError
from equipoise.models.attention_limits import SHARED_LAYERS
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.prefix import run_prefix, suffix_log_probs
from equipoise.models.reply_log_probs import is_encoder_decoder, plain_log_probs

CheckpointingContext = Callable[[str | None], AbstractContextManager[None]]
"""A context, for the attention implementation given, in which layers compute their activations again."""
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""Largest allowed relative difference of the gradients, by precision."""

_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class PrefixCacheSupport:
    """Whether and how the prefix of a model's prompts can be shared."""

    shared: bool
    """Whether the prefix is computed once."""
    reason: str = ""
    """Why not."""
    fused: bool = False
    """Whether torch's fused kernels gave the same."""

    @property
    def description(self) -> str:
        """`shared prefix`, or `plain batch: <reason>`."""
        return "shared prefix" if self.shared else f"plain batch: {self.reason}"


def unsupported_reason(model: Any, row: EncodedPrompt) -> str | None:
    """Why the prefix of such rows cannot be shared, as far as the model's settings and inputs tell; else None."""
    if is_encoder_decoder(model):
        return "an encoder reads the prompt"
    types = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    if any(not kind.endswith("attention") or "linear" in kind for kind in types):
        return "some of its layers are no attention and keep a state instead of keys"
    if others := sorted(set(types) - SHARED_LAYERS):
        return f"some of its layers choose which tokens they see ({others[0]})"
    # The suffix is run without image inputs, so that a forward pass that requires them cannot be split.
    pixels = inspect.signature(model.forward).parameters.get("pixel_values")
    if pixels is not None and pixels.default is pixels.empty:
        return "its forward pass reads the picture every time"
    if "cross_attention_mask" in row.token_inputs:
        return "pictures enter through cross-attention"
    if row.text_inputs:
        return "the question takes part in reading the picture"
    # Prefix-LM attention (PaliGemma): every prompt token sees the question, so that no part of the prompt is common.
    marks = row.token_inputs.get("token_type_ids")
    if marks is not None and not bool(marks[:, : row.prompt_length].any()):
        return "the prompt is read in both directions"
    return None


def self_check(
    model: Any,
    rows: Sequence[EncodedPrompt],
    images: Mapping[str, Any],
    checkpointing: CheckpointingContext | None = None,
) -> PrefixCacheSupport:
    """Compare log-probabilities and image gradients of both ways on two short prompts.

    Gradients are compared by relative norm, so that a model whose outputs are nearly constant cannot hide a difference.

    Args:
        model: a transformers image-text-to-text model.
        rows: the prompts.
        images: their image inputs.
        checkpointing: how activations are computed again; None keeps them.
    """
    context = checkpointing or _keep_activations

    def plain(inputs: Mapping[str, Any]) -> list[Tensor]:
        with context(None):
            return plain_log_probs(model, rows, inputs)

    def shared(inputs: Mapping[str, Any], fused: bool) -> list[Tensor]:
        with context(None):
            prefix = run_prefix(model, rows, inputs, all_layers=checkpointing is not None)
        with context(IMPLEMENTATION):
            return suffix_log_probs(model, prefix, rows, fused=fused)

    values, gradients = _values_and_gradients(images, plain)
    reason = "no implementation was tried"
    for fused in (True, False):
        try:
            shared_values, shared_gradients = _values_and_gradients(images, partial(shared, fused=fused))
        except CannotShareError as error:
            reason = str(error)
            continue
        except torch.OutOfMemoryError:
            # Says nothing about the model: the caller reports it with the options that need less memory.
            raise
        except _FAILURES as error:
            reason = f"it fails with {type(error).__name__} ({first_line(error, 80)})"
            continue
        difference = max(_relative_distance(shared_values, values), _relative_distance(shared_gradients, gradients))
        if difference <= TOLERANCE.get(model.dtype, 1e-3):
            return PrefixCacheSupport(True, fused=fused)
        reason = f"it would differ by {difference:.1%}"
    return PrefixCacheSupport(False, reason)


def _keep_activations(_implementation: str | None) -> AbstractContextManager[None]:
    return nullcontext()


def _values_and_gradients(
    images: Mapping[str, Any], score: Callable[[Mapping[str, Any]], list[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and their gradient at the float image inputs."""
    leaves: list[Tensor] = []

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            leaves.append(value.detach().requires_grad_(True))
            return leaves[-1]
        return type(value)(map(leaf, value)) if isinstance(value, list | tuple) else value

    with torch.enable_grad():
        values = torch.cat(score({key: leaf(value) for key, value in images.items()}))
        # Prompts of text alone have no image inputs: only their values are compared.
        gradients = torch.autograd.grad(values.sum(), leaves, allow_unused=True) if leaves else ()
    flat = [gradient.flatten().float() for gradient in gradients if gradient is not None]
    return values.detach(), torch.cat(flat) if flat else values.new_zeros(1)


def _relative_distance(values: Tensor, expected: Tensor) -> float:
    """Relative distance; infinite where either is not finite."""
    distance = float((values - expected).norm() / expected.norm().clamp_min(1e-30))
    # `max` may drop a NaN, and a difference that is no number must never pass.
    return distance if math.isfinite(distance) else math.inf
