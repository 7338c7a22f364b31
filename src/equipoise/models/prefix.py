"""One picture, many questions: everything up to the questions is computed once.

The prefix (system text, pictures, and whatever else all prompts begin with) runs as one row that leaves its keys and
values in a cache with their graph. The rest of every prompt and its reply then run as one packed row whose attention
is `attention.shared_prefix_attention`. Loss and pixel gradient equal those of the plain batch.

Why it pays: a picture is hundreds of tokens, a question with its reply a few dozen. A plain batch of N questions runs
the picture N times, forward and backward; here it runs once.

    plain batch                          shared prefix
    [picture][question 1][reply 1]       [picture]                                      `run_prefix`
    [picture][question 2][reply 2]       [question 1][reply 1][question 2][reply 2]     `suffix_log_probs`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from equipoise.models.attention import IMPLEMENTATION, CannotShareError, Packing, SharedPrefixKV, attach_prefix
from equipoise.models.encoded_prompt import EncodedPrompt, common_prefix
from equipoise.models.reply_log_probs import forward_logits, target_log_probs
from equipoise.models.state import attention_implementation, shifted_embeddings


class _PrefixLayer(CacheLayerMixin):
    """A cache layer without window and without maximum, as the recording and the sharing layer need it.

    transformers asks a cache layer how many tokens it holds in order to number positions and to build masks.
    """

    is_sliding = False
    length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        # How many keys a mask must span, and the index of the first of them.
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1

    # Called `get_max_cache_shape` before transformers 5.20.
    get_max_cache_shape = get_max_length


class _RecordingLayer(_PrefixLayer):
    """Keeps the keys and values of the prefix as they come, with their autograd graph."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        # A checkpointed layer runs a second time, in the backward pass; its first run is the one to keep.
        if not self.is_initialized:
            self.keys, self.values, self.is_initialized = key_states, value_states, True
        return key_states, value_states


class _PrefixComplete(Exception):
    """The last layer has left its keys and values.

    Raised inside the forward pass to end it: the attention of the last layer, its feed-forward part and the logits
    would be computed for nothing.
    """


class _RecordingCache(Cache):
    """Keeps the keys and values of all layers, and ends the forward pass when layer `last` has left its own."""

    def __init__(self, last: int | None) -> None:
        super().__init__(layer_class_to_replicate=_RecordingLayer)
        self._last = last

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        states = super().update(key_states, value_states, layer_idx, *args, **kwargs)
        if layer_idx == self._last:
            raise _PrefixComplete
        return states


class _SharingLayer(_PrefixLayer):
    """Returns the new keys and values only, with the prefix attached for the attention function.

    An ordinary cache would return prefix and suffix concatenated: a copy of the prefix for every layer, and one causal
    mask over texts that must not see each other.
    """

    def __init__(self, shared: SharedPrefixKV) -> None:
        super().__init__()
        self.shared, self.length, self.is_initialized = shared, shared.keys.shape[2], True

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        return attach_prefix(key_states, self.shared), value_states


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
    """What to add to a token's index to get its position (M-RoPE counts a picture's tokens as fewer positions)."""

    def detached(self) -> Prefix:
        """The same values as leaves of the graph, which accumulate gradients of their own.

        With these, every micro-batch of suffixes is backpropagated and freed by itself; the summed gradients then go
        through the prefix once.
        """
        return replace(
            self,
            keys=tuple(key.detach().requires_grad_(True) for key in self.keys),
            values=tuple(value.detach().requires_grad_(True) for value in self.values),
        )


def run_prefix(
    model: Any,
    rows: Sequence[EncodedPrompt],
    images: Mapping[str, Any],
    *,
    shifted: bool = False,
    all_layers: bool = False,
) -> Prefix:
    """Compute the longest prefix that all rows share.

    Args:
        model: a transformers image-text-to-text model.
        rows: prompts with the same pictures.
        images: image inputs of one prompt.
        shifted: whether the tokens after the picture will be shifted, each prompt's differently.
        all_layers: whether the forward pass must come to its end: the recomputation of a checkpointed layer compares
            its saved tensors with those of the first run, which must therefore be complete.

    Raises:
        CannotShareError: the rows share no prefix that holds all pictures.
    """
    first = rows[0]
    # Tokens after the picture that are shifted by each prompt differently are no longer common.
    length = common_prefix(list(rows), limit=first.picture_end if shifted else None)
    if length < first.picture_end:
        raise CannotShareError("the prompts differ before the last picture")
    for key, value in first.text_inputs.items():
        if any(
            row.text_inputs[key].shape != value.shape or not torch.equal(row.text_inputs[key], value) for row in rows
        ):
            raise CannotShareError("the question takes part in reading the picture")
    depth = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    cache = _RecordingCache(None if all_layers or depth is None else depth - 1)
    tokens = first.tokens[None, :length].to(model.device)
    with suppress(_PrefixComplete):
        forward_logits(
            model,
            # Logits of one token, the fewest that can be requested: none of them is used.
            torch.tensor([length - 1], device=model.device),
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            past_key_values=cache,
            use_cache=True,
            **{key: value[:, :length].to(model.device) for key, value in first.token_inputs.items()},
            **{key: value.to(model.device) for key, value in first.text_inputs.items()},
            **images,
        )
    layers: list[Any] = cache.layers
    if not layers or any(layer.keys is None or layer.keys.shape[2] != length for layer in layers):
        raise CannotShareError("its layers keep something else than the keys of every token")
    keys, values = zip(*((layer.keys, layer.values) for layer in layers), strict=True)
    return Prefix(keys, values, length, _position_offset(model))


def _position_offset(model: Any) -> int:
    """By how much positions after the prefix differ from token indices, as the last forward pass left it."""
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
    # The last token of a reply predicts nothing that is wanted.
    texts = [row.tokens[prefix.length : -1] for row in rows]
    lengths = [len(text) for text in texts]
    packing = Packing.from_lengths(lengths, device, fused=fused)
    layers: list[Any] = [
        _SharingLayer(SharedPrefixKV(key, value, packing))
        for key, value in zip(prefix.keys, prefix.values, strict=True)
    ]
    # Every text continues the same prefix, so that each counts its positions from the end of the prefix.
    positions = torch.cat([torch.arange(length) for length in lengths]) + (prefix.length + prefix.offset)
    starts = torch.tensor([0, *lengths]).cumsum(0)[:-1].tolist()
    # The logits at token t predict token t + 1: those from the last prompt token on predict the reply.
    keep = torch.cat(
        [
            torch.arange(row.reply_length) + (start + row.prompt_length - 1 - prefix.length)
            for start, row in zip(starts, rows, strict=True)
        ]
    ).to(device)
    targets = torch.cat([row.tokens[row.prompt_length :] for row in rows]).to(device)
    with (
        attention_implementation(model, IMPLEMENTATION),
        shifted_embeddings(model, _packed_shift(shift, rows, lengths)),
    ):
        logits = forward_logits(
            model,
            keep,
            input_ids=torch.cat(texts)[None].to(device),
            position_ids=positions[None].to(device),
            past_key_values=Cache(layers=layers),
            use_cache=True,
        )
    return list(target_log_probs(logits[0], targets).split([row.reply_length for row in rows]))


def _packed_shift(shift: Tensor | None, rows: Sequence[EncodedPrompt], lengths: Sequence[int]) -> Tensor | None:
    """The shifts laid out like the packed row, `1 x S x width`."""
    if shift is None:
        return None
    parts = []
    for row, values, length in zip(rows, shift, lengths, strict=True):
        values = values[: row.prompt_length - row.picture_end]
        parts += [values, values.new_zeros(length - len(values), values.shape[1])]
    return torch.cat(parts)[None]
