"""The optimisers of the reference models' trainings, and one update of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def muon_and_adamw(module: nn.Module, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else that learns.

    Args:
        module: whose weights learn.
        rate: peak learning rate of both.
        weight_decay: for the matrices.
    """
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            # Muon orthogonalises the update of a matrix, which has a meaning for linear maps between hidden states
            # only. Embeddings, norms, biases and heads are learned by AdamW. Some architectures call the list of their
            # layers `layer`, others `layers`.
            (inner if parameter.ndim == 2 and ".layer" in name else outer).append(parameter)
    # With `match_rms_adamw` the updates of Muon have the size of AdamW's, so that one learning rate serves both.
    return [
        torch.optim.Muon(inner, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def update(loss: Tensor, weights: Iterable[nn.Parameter], optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """One update: the gradients of a loss, cut to a norm of 1 over all weights, and a step of each optimiser."""
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
