"""Leave the caller's model as found: everything changed for a computation is put back, also after exceptions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

POSITION_ATTRIBUTES = ("rope_deltas",)
"""Attributes in which some families keep the positions of their last forward pass."""

current_prompt_lengths: ContextVar[Sequence[int] | None] = ContextVar("current_prompt_lengths", default=None)
"""Tokens of each row's prompt in a forward pass whose rows hold replies too; None where rows are prompts alone."""


@contextmanager
def prompt_lengths(lengths: Sequence[int]) -> Iterator[None]:
    """Forward passes inside have rows of a prompt and its reply; what stands where is for hooks to read."""
    token = current_prompt_lengths.set(lengths)
    try:
        yield
    finally:
        current_prompt_lengths.reset(token)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode, without gradients for its weights and without traces of what is run inside."""
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    positions = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in POSITION_ATTRIBUTES
        if name in vars(module)
    ]
    try:
        # Only the flags that differ are touched: `model.eval()` and `model.train()` would set all modules alike, and a
        # caller may keep parts of a model in another mode.
        for module in training:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, name, value in positions:
            setattr(module, name, value)


def number_format(model: Any) -> str:
    """How a model of transformers computes: `float32`, `bfloat16`, and where its weights are packed `bfloat16 4bit`."""
    packed = [bits for bits in ("4bit", "8bit") if getattr(model, f"is_loaded_in_{bits}", False)]
    return " ".join([str(model.dtype).removeprefix("torch."), *packed])


@contextmanager
def attention_implementation(model: nn.Module, implementation: str) -> Iterator[None]:
    """Every layer that keeps a cache uses `implementation`, a name in transformers' attention interface."""
    configs = {id(config): config for config in _layer_configs(model)}.values()
    before = [config._attn_implementation_internal for config in configs]
    try:
        for config in configs:
            # The public setter reloads kernels and asks every class; this is the field it writes in the end.
            config._attn_implementation_internal = implementation
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


def _layer_configs(model: nn.Module) -> Iterator[Any]:
    """Settings of the text model and of every layer with a cache: some families give layers a copy of their own."""
    yield model.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]
    for module in model.modules():
        if hasattr(module, "layer_idx") and hasattr(getattr(module, "config", None), "_attn_implementation_internal"):
            yield module.config


@contextmanager
def shifted_embeddings(model: nn.Module, shift: Tensor | None) -> Iterator[None]:
    """Add `shift` (`B x T x width`) to the token embeddings of every `B x T` input."""
    if shift is None:
        yield
        return

    def add(_module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        # Only the prompts themselves: a family may embed further tokens on the way.
        return embedded + shift.to(embedded.dtype) if embedded.shape == shift.shape else embedded

    handle = model.get_input_embeddings().register_forward_hook(add)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def recomputed_activations(
    model: nn.Module, implementation: str | None = None, *, learning: bool = False
) -> Iterator[None]:
    """Gradient checkpointing: layers free their activations and compute them again in the backward pass.

    transformers' own switch drops the cache and works in train mode only; this one keeps both as they are.

    Args:
        model: the model whose layers are checkpointed.
        implementation: the attention that the layers run with, to be set again when they are recomputed.
        learning: whether weights of the model learn: their layers are then computed again as they are at the backward
            pass, which must find flags and modes unchanged. Otherwise they are computed again `frozen`.
    """

    @contextmanager
    def recomputation() -> Iterator[None]:
        # The backward pass runs outside of the `with` blocks of the forward pass, where mode, gradient flags and
        # attention are the caller's again: the recomputation needs those of the forward pass.
        with ExitStack() as stack:
            if not learning:
                stack.enter_context(frozen(model))
            if implementation is not None:
                stack.enter_context(attention_implementation(model, implementation))
            yield

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    try:
        for layer in layers:
            layer.forward = _checkpointed_forward(layer.forward, lambda: (nullcontext(), recomputation()))
        yield
    finally:
        for layer in layers:
            # The wrapper is an attribute of the instance; without it the class's `forward` is found again.
            vars(layer).pop("forward", None)


def _checkpointed_forward(forward: Any, contexts: Any) -> Any:
    """`forward` under `torch.utils.checkpoint`, where gradients are computed at all."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    return run
