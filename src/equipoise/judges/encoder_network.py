"""The network of the encoder judge: a BERT encoder of MiniLM's size with a linear head, in plain torch.

Written out because training keeps the output of the frozen lower layers and runs the upper ones alone, and because
judging then needs neither transformers nor its import. The architecture is BERT's (Devlin et al. 2018, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of the network."""

    vocabulary: int
    """Rows of the token embedding."""
    positions: int
    """The longest input in tokens."""
    width: int = 384
    """Of the hidden states."""
    inner: int = 1536
    """Of the feed-forward layers."""
    heads: int = 12
    """Of each attention layer."""
    layers: int = 6
    """How many."""
    labels: int = 3
    """What the head tells apart."""


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised after."""

    def __init__(self, shape: EncoderShape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.dropout = dropout
        self.mixed = nn.Linear(shape.width, 3 * shape.width)
        self.attended = nn.Linear(shape.width, shape.width)
        self.attended_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.up = nn.Linear(shape.width, shape.inner)
        self.down = nn.Linear(shape.inner, shape.width)
        self.down_norm = nn.LayerNorm(shape.width, eps=1e-12)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Hidden states [batch, length, width] to the same; `mask` [batch, 1, 1, length] is true on text."""
        batch, length, width = hidden.shape
        parts = self.mixed(hidden).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)
        mixed = self.attended(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden = self.attended_norm(hidden + functional.dropout(mixed, self.dropout, self.training))
        fed = self.down(functional.gelu(self.up(hidden)))
        return self.down_norm(hidden + functional.dropout(fed, self.dropout, self.training))


class Encoder(nn.Module):
    """Token ids to the logits of the labels."""

    def __init__(self, shape: EncoderShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.positions, shape.width)
        self.embedded_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(shape, dropout) for _ in range(shape.layers))
        self.head = nn.Linear(2 * shape.width, shape.labels)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [batch, length] to hidden states [batch, length, width]."""
        positions = self.places.weight[: ids.shape[1]]
        return self.embedded_norm(self.tokens(ids) + positions)

    def run(self, hidden: Tensor, mask: Tensor | None, start: int = 0, stop: int | None = None) -> Tensor:
        """Hidden states through the layers from `start` up to `stop`; `mask` [batch, length] or None for no padding."""
        attended = None if mask is None else mask[:, None, None, :]
        for layer in self.layers[start:stop]:
            hidden = layer(hidden, attended)
        return hidden

    def classify(self, hidden: Tensor, reply: Tensor) -> Tensor:
        """Logits [batch, labels] from the first hidden state and the mean over the reply; `reply` [batch, length]."""
        weight = reply.to(hidden.dtype).unsqueeze(-1)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
        return self.head(torch.cat([hidden[:, 0], mean], dim=-1))

    def forward(self, ids: Tensor, reply: Tensor, mask: Tensor | None = None) -> Tensor:
        """Token ids [batch, length] to logits [batch, labels]; `reply` is true on the tokens of the reply."""
        return self.classify(self.run(self.embed(ids), mask), reply)
