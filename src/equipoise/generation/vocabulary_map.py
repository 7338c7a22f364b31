"""Gradients over one vocabulary as gradients over another: writer and victim may have different tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class VocabularyMap:
    """For each token of the writer, the victim's token that its text begins with.

    Only the choice of candidates goes through this map. Exact scores are those of whole texts, so that a word that the
    victim splits costs nothing but a worse first estimate.

    Args:
        texts: text of each token of the writer; empty for one that is never written.
        tokenizer: the victim's.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Any) -> None:
        filled = [text or " " for text in texts]
        # A mark in front, so that the space of a word in the middle of a text is not lost.
        marked = tokenizer([f"a{text}" if text.startswith(" ") else text for text in filled], add_special_tokens=False)
        first = tokenizer("a", add_special_tokens=False)["input_ids"]
        indices = []
        for text, ids in zip(filled, marked["input_ids"], strict=True):
            # The first token alone stands for the word. Where the victim splits a word, its gradient is that of the
            # beginning, which is why exact scores of whole texts decide afterwards.
            own = ids[len(first) :] if text.startswith(" ") and ids[: len(first)] == first else ids
            indices.append(own[0] if own else 0)
        self._indices = torch.tensor(indices)
        self._written = torch.tensor([bool(text) for text in texts])

    def carry(self, values: Tensor) -> Tensor:
        """`V` values of the victim's tokens as those of the writer's; 0 for tokens that are never written."""
        return torch.where(self._written, values[self._indices], torch.zeros(()))
