"""Less memory for more time: layers that compute their activations again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


@contextmanager
def activation_checkpointing(model: nn.Module) -> Iterator[None]:
    """Layers run inside forget their activations; weights that learn must go on doing so until the backward pass.

    `models.state.checkpointed` is for models whose weights do not learn: it computes them again frozen.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    try:
        for layer in layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
