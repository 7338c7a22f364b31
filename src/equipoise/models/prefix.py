"""One picture, many questions: everything up to the questions is computed once.

The prefix (system text, pictures, and whatever else all prompts begin with) runs as one row that leaves its keys and
values in a cache with their graph. The rest of every prompt and its reply then run as one packed row whose attention
is `attention.shared_prefix_attention`. Loss and pixel gradient equal those of the plain batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from equipoise.models.attention import IMPLEMENTATION, CannotShareError, Packing, SharedPrefixKV
from equipoise.models.encoded_prompt import EncodedPrompt, common_prefix
from equipoise.models.reply_log_probs import chosen_log_probs, forward_logits
from equipoise.models.state import attention, shifted_embeddings


class _PrefixLayer(CacheLayerMixin):
    """What the recording and the sharing layer have in common: no window, no end, nothing to reorder."""

    is_sliding = False
    length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    # Called `get_max_cache_shape` before transformers 5.20.
    get_max_cache_shape = get_max_length


class _RecordingLayer(_PrefixLayer):
    """Keeps the keys and values of the prefix as they come."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        # A checkpointed layer runs a second time, in the backward pass; its first run is the one to keep.
        if not self.is_initialized:
            self.keys, self.values, self.is_initialized = key_states, value_states, True
        return key_states, value_states


class _PrefixComplete(Exception):
    """The last layer has left its keys and values; what it would compute from them is not wanted."""


class _RecordingCache(Cache):
    """Keeps what the prefix leaves, and ends the forward pass when it is complete."""

    def __init__(self, last: int | None) -> None:
        super().__init__(layer_class_to_replicate=_RecordingLayer)
        self._last = last

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        found = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self._last:
            raise _PrefixComplete
        return found


class _SharingLayer(_PrefixLayer):
    """Hands out the new keys and values only, with a note of where the prefix is."""

    def __init__(self, shared: SharedPrefixKV) -> None:
        super().__init__()
        self.shared, self.length, self.is_initialized = shared, shared.keys.shape[2], True

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        key_states = key_states.view_as(key_states)
        key_states.shared = self.shared  # type: ignore[attr-defined]
        return key_states, value_states


@dataclass(frozen=True)
class Prefix:
    """Keys and values of what all prompts begin with."""

    keys: tuple[Tensor, ...]
    """One `1 x heads x P x d` per layer."""
    values: tuple[Tensor, ...]
    """One `1 x heads x P x d` per layer."""
    length: int
    """P, in tokens."""
    offset: int
    """What to add to a token's place to get its position (M-RoPE counts a picture's tokens as fewer positions)."""

    def cut(self) -> Prefix:
        """The same values as leaves, which gather gradients of their own."""
        return replace(
            self,
            keys=tuple(key.detach().requires_grad_(True) for key in self.keys),
            values=tuple(value.detach().requires_grad_(True) for value in self.values),
        )


def run_prefix(
    model: Any, rows: Sequence[EncodedPrompt], images: Mapping[str, Any], *, shifted: bool = False, whole: bool = False
) -> Prefix:
    """Compute the longest prefix that all rows share.

    Args:
        model: a transformers image-text-to-text model.
        rows: prompts with the same pictures.
        images: image inputs of one prompt.
        shifted: whether the tokens after the picture will be shifted, each prompt's differently.
        whole: whether the forward pass must come to its end, as checkpointed layers need it.

    Raises:
        CannotShareError: the rows share no prefix that holds all pictures.
    """
    first = rows[0]
    length = common_prefix(list(rows), limit=first.picture_end if shifted else None)
    if length < first.picture_end:
        raise CannotShareError("the prompts differ before the last picture")
    for key, value in first.loose.items():
        if any(row.loose[key].shape != value.shape or not torch.equal(row.loose[key], value) for row in rows):
            raise CannotShareError("the question takes part in reading the picture")
    depth = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    cache = _RecordingCache(None if whole or depth is None else depth - 1)
    tokens = first.tokens[None, :length].to(model.device)
    with suppress(_PrefixComplete):
        forward_logits(
            model,
            torch.tensor([length - 1], device=model.device),
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            past_key_values=cache,
            use_cache=True,
            **{key: value[:, :length].to(model.device) for key, value in first.aligned.items()},
            **{key: value.to(model.device) for key, value in first.loose.items()},
            **images,
        )
    layers: list[Any] = cache.layers
    if not layers or any(layer.keys is None or layer.keys.shape[2] != length for layer in layers):
        raise CannotShareError("its layers keep something else than the keys of every token")
    keys, values = zip(*((layer.keys, layer.values) for layer in layers), strict=True)
    return Prefix(keys, values, length, _offset(model))


def _offset(model: Any) -> int:
    for module in model.modules():
        deltas = getattr(module, "rope_deltas", None)
        if isinstance(deltas, Tensor):
            return int(deltas.flatten()[0])
    return 0


def suffix_log_probs(
    model: Any, prefix: Prefix, rows: Sequence[EncodedPrompt], shift: Tensor | None = None, *, fused: bool = True
) -> list[Tensor]:
    """Token log-probabilities of each row's reply, after the prefix.

    Args:
        model: a transformers image-text-to-text model.
        prefix: what `run_prefix` gave for rows among which are these.
        rows: the prompts with their replies.
        shift: `N x L x width`, added to the embeddings of the first L tokens after the prefix.
        fused: whether to use torch's fused attention kernels where they fit.
    """
    device = model.device
    # The last token of a reply predicts nothing that is asked for.
    texts = [row.tokens[prefix.length : -1] for row in rows]
    lengths = [len(text) for text in texts]
    packing = Packing.of(lengths, device, fused=fused)
    layers: list[Any] = [
        _SharingLayer(SharedPrefixKV(key, value, packing))
        for key, value in zip(prefix.keys, prefix.values, strict=True)
    ]
    places = torch.cat([torch.arange(length) for length in lengths])
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1].tolist()
    keep = torch.cat(
        [
            torch.arange(row.reply_length) + (start + row.prompt_length - 1 - prefix.length)
            for start, row in zip(starts, rows, strict=True)
        ]
    ).to(device)
    targets = torch.cat([row.tokens[row.prompt_length :] for row in rows]).to(device)
    with attention(model, IMPLEMENTATION), shifted_embeddings(model, _packed_shift(shift, rows, lengths)):
        logits = forward_logits(
            model,
            keep,
            input_ids=torch.cat(texts)[None].to(device),
            position_ids=(places + (prefix.length + prefix.offset))[None].to(device),
            past_key_values=Cache(layers=layers),
            use_cache=True,
        )
    return list(chosen_log_probs(logits[0], targets).split([row.reply_length for row in rows]))


def _packed_shift(shift: Tensor | None, rows: Sequence[EncodedPrompt], lengths: Sequence[int]) -> Tensor | None:
    """The shifts laid out like the packed row, `1 x S x width`."""
    if shift is None:
        return None
    parts = []
    for row, values, length in zip(rows, shift, lengths, strict=True):
        values = values[: row.prompt_length - row.picture_end]
        parts += [values, values.new_zeros(length - len(values), values.shape[1])]
    return torch.cat(parts)[None]
