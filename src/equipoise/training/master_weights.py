"""Float32 masters of weights that compute in bfloat16: fast on CPUs with bf16 units, and small updates count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


class MasterWeights:
    """Float32 copies of a model's learning weights, which an optimiser updates in their place.

    An update is often smaller than the spacing of bfloat16 numbers and would be rounded away in the weight itself.

    Args:
        weights: of the model, in any precision.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = list(weights)
        self.masters = [nn.Parameter(weight.detach().float().clone()) for weight in self.weights]

    def take_gradients(self, limit: float) -> None:
        """Move the gradients of the weights to the masters, their common norm clipped.

        Args:
            limit: greatest norm.
        """
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            # The optimiser knows the masters alone, so that its `zero_grad` would never clear these.
            weight.grad = None
        nn.utils.clip_grad_norm_(self.masters, limit)

    def publish(self) -> None:
        """Copy the masters into the weights, rounded to their precision."""
        with torch.no_grad():
            for weight, master in zip(self.weights, self.masters, strict=True):
                weight.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """Masters by their number."""
        return {str(index): master.detach() for index, master in enumerate(self.masters)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take masters over and publish them.

        Raises:
            KeyError: the state is that of fewer weights.
            RuntimeError: a weight has another shape.
        """
        with torch.no_grad():
            for index, master in enumerate(self.masters):
                master.copy_(state[str(index)])
        self.publish()
