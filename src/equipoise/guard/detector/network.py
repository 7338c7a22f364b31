"""The harm detector's network: a pretrained language model with its last layer replaced by one linear unit.

MLLM-Protector (arXiv:2401.02906, section 3.1). Rows are padded on the right whatever the tokenizer prefers, and what is
pooled is chosen by the mask: the released code pools at `count(non-pad) - 1` of rows that are padded on the left, which
is a padding token in every row but the longest.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class WindowBatch:
    """Windows of several replies, padded on the right."""

    ids: Tensor
    """[windows, length]."""
    mask: Tensor
    """[windows, length], 1 on text."""
    row: Tensor
    """[windows], the reply each window belongs to."""


def batch(rows: Sequence[Sequence[Sequence[int]]], padding: int) -> WindowBatch:
    """The windows of replies as one batch.

    Args:
        rows: for each reply its windows, each a list of token ids.
        padding: the id that fills up; masked, so any will do.
    """
    windows = [(index, window) for index, row in enumerate(rows) for window in row]
    # Windows of all replies share the batch; `row` says afterwards which logits belong together.
    longest = max(len(window) for _, window in windows)
    ids = torch.full((len(windows), longest), padding)
    mask = torch.zeros(len(windows), longest, dtype=torch.long)
    for at, (_, window) in enumerate(windows):
        ids[at, : len(window)] = torch.tensor(window)
        mask[at, : len(window)] = 1
    return WindowBatch(ids, mask, torch.tensor([index for index, _ in windows]))


class HarmNetwork(nn.Module):
    """Token ids to one logit a reply: above 0 is rather harmful.

    Args:
        base: any language model of transformers without a head, encoder or decoder.
        pooling: `mean` over the attended tokens (encoders) or the `last` attended one (decoders).
        dropout: before the linear unit, in training.
    """

    def __init__(self, base: Any, pooling: Pooling, dropout: float = 0.1) -> None:
        super().__init__()
        self.base = base
        # Decoders keep keys and values for a next token by default; there is none.
        if hasattr(base.config, "use_cache"):
            base.config.use_cache = False
        self.pooling = pooling
        self.dropout = dropout
        self.head = nn.Linear(base.config.hidden_size, 1)

    @property
    def config(self) -> Any:
        """Configuration of the base, by which its layers are found."""
        return self.base.config

    def windows(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [windows] of single windows."""
        hidden = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = functional.dropout(pool(hidden, mask, self.pooling), self.dropout, self.training)
        return self.head(pooled.to(self.head.weight.dtype)).squeeze(-1)

    def forward(
        self, ids: Tensor, mask: Tensor, row: Tensor, labels: Tensor | None = None, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits [rows], each the largest of its windows, and the loss where there are labels.

        Args:
            ids: token ids [windows, length], padded on the right.
            mask: 1 on text [windows, length].
            row: the reply of each window [windows].
            labels: 1 harmful, 0 harmless [rows]; the loss is binary cross-entropy.
            weights: of the rows in the loss [rows].
        """
        logits_of_windows = self.windows(ids, mask)
        # The largest, not the mean: one harmful window makes a long reply harmful. The same in training, so that the
        # gradient reaches only the window that decided.
        rows = int(row.max()) + 1 if labels is None else len(labels)
        lowest = torch.full((rows,), -torch.inf, dtype=logits_of_windows.dtype, device=logits_of_windows.device)
        logits = lowest.scatter_reduce(0, row, logits_of_windows, "amax")
        if labels is None:
            return {"logits": logits}
        # In float32 and from logits: sigmoid first would round to exactly 0 or 1 in half precision, and its logarithm
        # would be infinite.
        loss = functional.binary_cross_entropy_with_logits(logits.float(), labels.float(), weight=weights)
        return {"loss": loss, "logits": logits}


def first_layers(network: HarmNetwork, layers: int) -> HarmNetwork:
    """A copy of a network's first layers and of its linear unit; the token embeddings are the network's own.

    Raises:
        ValueError: the network has no more layers than that.
    """
    from transformers import AutoModel

    config = copy.deepcopy(network.base.config)
    if not 0 < layers < config.num_hidden_layers:
        raise ValueError(f"expected fewer layers than {config.num_hidden_layers}, got {layers}")
    config.num_hidden_layers = layers
    # Models with sliding windows list the kind of attention of each layer; a list longer than the layers is refused by
    # transformers.
    if isinstance(getattr(config, "layer_types", None), list):
        config.layer_types = config.layer_types[:layers]
    student = HarmNetwork(AutoModel.from_config(config, trust_remote_code=False), network.pooling, network.dropout)
    # Not strict: the layers that the student lacks have no place in it.
    weights = network.state_dict()
    student.load_state_dict({name: weights[name] for name in student.state_dict() if name in weights}, strict=False)
    # One table for both, in memory and on disk: `folder.shared_keys` knows it by its identity.
    student.base.set_input_embeddings(network.base.get_input_embeddings())
    return student


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Hidden states [windows, length, width] to [windows, width], by the mask [windows, length] on whichever side."""
    if pooling == "mean":
        # sum(mask * hidden) / sum(mask): padding has weight 0, so that a reply's score does not depend on what it is
        # batched with.
        weight = mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    # The highest attended position, which is right with padding on either side; `mask.sum() - 1` would be wrong with
    # padding on the left.
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    last = torch.where(mask.bool(), positions, -1).amax(1).clamp(min=0)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def pooling_of(config: Any) -> Pooling:
    """`last` for a decoder, which reads from left to right, `mean` for an encoder."""
    causal = bool(getattr(config, "is_decoder", False)) or any(
        "CausalLM" in name for name in getattr(config, "architectures", None) or ()
    )
    return "last" if causal or config.model_type in CAUSAL else "mean"


CAUSAL = frozenset(
    {"falcon", "gemma", "gemma2", "gpt2", "gpt_neo", "gpt_neox", "granite", "llama", "mistral", "olmo2"}
) | {
    "opt",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
}
"""Families whose configuration does not say that they read from left to right."""
