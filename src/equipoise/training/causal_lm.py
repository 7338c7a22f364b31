"""What supervised trainings of causal language models share: the base, labels that skip the prompt, the collator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from equipoise.errors import ModelError
from equipoise.models.model_parts import load_parts
from equipoise.training.processes import shared_weight

IGNORED: Final = -100
"""The label of tokens that are not learned."""
TokenRow = dict[str, list[int]]
"""`input_ids` and `labels` of one row, of the same length."""


def load_base(base: str, *, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        base: a folder, a `.gguf` file or another name that `models.load` takes.
        dtype: of the weights; bfloat16 for those that stay frozen.

    Raises:
        ModelError: no causal language model there, or a tokenizer without an end token.
    """
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    parts = load_parts(base, device=torch.device("cpu"), dtype=dtype)
    if parts.reads_pictures:
        raise ModelError(f"expected a causal language model, got {base}, which reads pictures; try a text model")
    model, tokenizer = parts.model, parts.processor
    if tokenizer.eos_token_id is None:
        raise ModelError(f"expected a tokenizer that can end a reply, got none in {base}; try another base")
    return model, tokenizer


def token_row(prompt: Sequence[int], reply: Sequence[int]) -> TokenRow:
    """One row of token ids of which the reply alone is learned."""
    return {"input_ids": [*prompt, *reply], "labels": [IGNORED] * len(prompt) + [*reply]}


def labelled_loss(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The mean cross-entropy of the labelled tokens, computed at their positions alone.

    Args:
        model: a causal language model, or adapters around one.
        batch: `input_ids`, `labels` and `attention_mask` [rows, length].
    """
    labels = batch["labels"]
    # The state at position t predicts the token at t + 1.
    chosen = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED) != IGNORED
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    logits, targets = logits_at(model, inputs, chosen), labels[:, 1:][chosen[:, :-1]]
    if not len(targets):
        # A process whose rows are all prompt; its gradient is 0, and its weight as well.
        return logits.sum() * shared_weight(0)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    weight = shared_weight(len(targets))
    return loss if weight == 1.0 else loss * weight


def logits_at(model: Any, inputs: Mapping[str, Any], chosen: torch.Tensor) -> torch.Tensor:
    """`N x V` float32 logits at the chosen positions alone, row by row.

    transformers computes logits for every position, prompts and padding included: with a vocabulary of 50,000 that is
    more work than the layers of a small model. Here the output layer sees only the hidden states from which a label is
    predicted. What a family does to its logits afterwards (scaling, soft caps) still happens, as the layer's own
    input is what is replaced.

    Args:
        model: a model of transformers that writes text, or adapters around one.
        inputs: keyword arguments of its forward pass.
        chosen: `rows x length` bool, N of them true.
    """

    def keep_chosen(_layer: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # Indexing also makes the states contiguous: a strided slice would take a far slower product.
        return (arguments[0][chosen].unsqueeze(0), *arguments[1:])

    # Logits are `rows x length x vocabulary`: with 50,000 words or more they are by far the largest tensor of a
    # training, and most of them belong to prompts and padding that are not learned. The hook drops those rows before
    # the product.
    handle = model.get_output_embeddings().register_forward_pre_hook(keep_chosen)
    try:
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    finally:
        handle.remove()
    return logits[0].float()


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
