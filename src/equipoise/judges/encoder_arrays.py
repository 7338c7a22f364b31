"""The network of `encoder_network` for judging, in numpy: an audit of a served model then needs no torch.

One reply at a time, without padding, so that no mask is needed. Values agree with torch's to about 1e-5 in the logits;
a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
EPSILON = 1e-12
"""Of the layer norms, as in BERT."""


@dataclass(frozen=True)
class ArrayEncoder:
    """Token ids to the logits of the labels, from the weights of an `Encoder`."""

    weights: Mapping[str, Array]
    """By the names of `Encoder.state_dict`, as float32."""
    heads: int
    """Of each attention layer."""
    layers: int
    """How many."""

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]], heads: int, layers: int) -> ArrayEncoder:
        """From stored weights: matrices in 8 bits have their rows' scales under `NAME.scale`."""
        weights = {
            name: np.ascontiguousarray(value.astype(np.float32) * state.get(f"{name}.scale", np.float32(1)))
            for name, value in state.items()
            if not name.endswith(".scale")
        }
        return cls(weights, heads, layers)

    def logits(self, ids: list[int], reply: int) -> Array:
        """Logits [labels].

        Args:
            ids: tokens of prompt and reply.
            reply: where the reply begins.
        """
        tokens, positions = self.weights["tokens.weight"], self.weights["places.weight"]
        hidden = self._norm("embedded_norm", tokens[ids] + positions[: len(ids)])
        for layer in range(self.layers):
            hidden = self._layer(f"layers.{layer}", hidden)
        # The state of [CLS], which has read everything, and the mean over the reply with its [SEP].
        summary = np.concatenate([hidden[0], hidden[reply:].mean(0)])
        return self._linear("head", summary)

    def _layer(self, name: str, hidden: Array) -> Array:
        length, width = hidden.shape
        parts = self._linear(f"{name}.mixed", hidden).reshape(length, 3, self.heads, width // self.heads)
        query, key, value = parts.transpose(1, 2, 0, 3)
        # Scaled dot products [heads, length, length]; the largest is subtracted so that exp cannot overflow.
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(width // self.heads))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        mixed = self._linear(f"{name}.attended", mixed.transpose(1, 0, 2).reshape(length, width))
        hidden = self._norm(f"{name}.attended_norm", hidden + mixed)
        fed = self._linear(f"{name}.down", _gelu(self._linear(f"{name}.up", hidden)))
        return self._norm(f"{name}.down_norm", hidden + fed)

    def _linear(self, name: str, value: Array) -> Array:
        return value @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, name: str, value: Array) -> Array:
        centred = value - value.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(EPSILON))
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def _gelu(value: Array) -> Array:
    """X Phi(x), the exact form of BERT, not the approximation with tanh."""
    # erf after Abramowitz and Stegun (1964), 7.1.26: within 1.5e-7, which is what float32 holds, and twice as quick as
    # scipy's: exp is all that it needs.
    size = np.abs(value) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    tail = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail *= t
        tail += np.float32(factor)
    tail *= t
    tail *= np.exp(-size * size)
    return 0.5 * value * (1 + np.copysign(1 - tail, value))
