"""What supervised trainings of causal language models share: the base, labels that skip the prompt, the collator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from equipoise.errors import ModelError
from equipoise.models.pretrained import load_parts

IGNORED: Final = -100
"""The label of tokens that are not learned."""
TokenRow = dict[str, list[int]]
"""`input_ids` and `labels` of one row, of the same length."""


def load_base(base: str) -> tuple[Any, Any]:
    """A causal language model in float32 and its tokenizer.

    Args:
        base: a folder, a `.gguf` file or another name that `models.load` takes.

    Raises:
        ModelError: no causal language model there, or a tokenizer without an end token.
    """
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    parts = load_parts(base, device=torch.device("cpu"), dtype=torch.float32)
    if parts.reads_pictures:
        raise ModelError(f"expected a causal language model, got {base}, which reads pictures; try a text model")
    model, tokenizer = parts.model, parts.processor
    if tokenizer.eos_token_id is None:
        raise ModelError(f"expected a tokenizer that can end a reply, got none in {base}; try another base")
    return model, tokenizer


def token_row(prompt: Sequence[int], reply: Sequence[int]) -> TokenRow:
    """One row of token ids of which the reply alone is learned."""
    return {"input_ids": [*prompt, *reply], "labels": [IGNORED] * len(prompt) + [*reply]}


@dataclass(frozen=True)
class CausalCollator:
    """Rows padded on the right; padding is neither attended to nor learned."""

    padding: int
    """The id that fills up."""

    @classmethod
    def of(cls, tokenizer: Any) -> CausalCollator:
        """Pads with the tokenizer's padding token, or with its end token where it has none."""
        return cls(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)

    def __call__(self, rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `attention_mask` [rows, length], as a causal language model takes them."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self.padding)
        labels = torch.full((len(rows), width), IGNORED)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[index, :length] = torch.tensor(row["input_ids"])
            labels[index, :length] = torch.tensor(row["labels"])
            mask[index, :length] = 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}
