"""Attention of many short texts that follow one long prefix, whose keys and values are stored once.

The texts lie one after another in a single row, without padding. Each of their tokens attends to the whole prefix
and causally to its own text. The two parts are computed apart, each where it is dense, and joined by their
log-sum-exp as flash attention joins blocks (Dao et al. 2022, arXiv:2205.14135, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

IMPLEMENTATION = "equipoise_shared_prefix"
FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class CannotShareError(Exception):
    """This call's attention is not one in which a prefix can be shared."""


@dataclass(frozen=True)
class Packing:
    """How N texts of different lengths lie in one row of S tokens."""

    padded: Tensor
    """`N x L` place in the row of each text's t-th token; 0 beyond its end."""
    packed: Tensor
    """`S` place of each token of the row in the flattened `N x L` table."""
    fused: bool
    """Whether the blocks may be computed by torch's fused kernels."""

    @classmethod
    def of(cls, lengths: list[int], device: torch.device, *, fused: bool) -> Packing:
        """The packing of texts of these lengths."""
        longest = max(lengths)
        count = torch.tensor(lengths)[:, None]
        start = count.cumsum(0) - count
        step = torch.arange(longest)[None]
        inside = step < count
        places = torch.arange(len(lengths) * longest).view(len(lengths), longest)
        return cls(torch.where(inside, start + step, 0).to(device), places[inside].to(device), fused)


@dataclass(frozen=True)
class SharedPrefixKV:
    """What the attention of one layer needs beside the new keys and values."""

    keys: Tensor
    """`1 x heads x P x d` of the prefix."""
    values: Tensor
    """`1 x heads x P x d` of the prefix."""
    packing: Packing
    """How the texts lie in the row."""


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function in the sense of transformers' `AttentionInterface`.

    Args:
        module: the attention layer (not used, part of the interface).
        query: `1 x heads x S x d`.
        key: `1 x key_heads x S x d`; its attribute `shared` holds the prefix.
        value: `1 x key_heads x S x d`.
        attention_mask: must be None, as the packing says who sees whom.
        scaling: factor on the scores; `d ** -0.5` when None.
        dropout: must be 0.
        sliding_window: how far back a token sees; must reach over everything.
        softcap: must be None.
        s_aux: attention sinks, must be None.
        others: further arguments of the interface, which change nothing here.

    Returns:
        `1 x S x heads x d`, and None for the weights.

    Raises:
        CannotShareError: the layer asks for something else than plain causal attention.
    """
    shared: SharedPrefixKV | None = getattr(key, "shared", None)
    if shared is None:
        raise CannotShareError("its layers change keys after the cache")
    if attention_mask is not None or dropout or softcap is not None or s_aux is not None:
        raise CannotShareError("its attention is not plain (mask, dropout, softcap or sinks)")
    packing = shared.packing
    if sliding_window is not None and shared.keys.shape[2] + packing.padded.shape[1] > sliding_window:
        raise CannotShareError(f"its sliding window of {sliding_window} tokens is shorter than the text")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    blocks = _fused if packing.fused and query.dtype in FUSED_DTYPES and query.device.type == "cpu" else _plain
    return blocks(query[0], key[0], value[0], shared, scale).transpose(0, 1)[None], None


AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)


def _plain(query: Tensor, key: Tensor, value: Tensor, shared: SharedPrefixKV, scale: float) -> Tensor:
    """Both blocks by matrix products and one softmax; any device, any precision."""
    heads, tokens, width = query.shape
    kept = key.shape[0]
    group = heads // kept
    padded, packed = shared.packing.padded, shared.packing.packed
    rows, longest = padded.shape
    query = query * scale
    far = query.reshape(kept, group * tokens, width) @ shared.keys[0].transpose(1, 2)
    own_query = query.view(kept, group, tokens, width)[:, :, padded]
    near = own_query @ key[:, padded].transpose(2, 3)[:, None]
    future = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    near = near.masked_fill(future, -torch.inf).view(kept, group, rows * longest, longest)[:, :, packed]
    scores = torch.cat([far.view(kept, group, tokens, -1), near], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    prefix = shared.keys.shape[2]
    seen = weights[..., :prefix].reshape(kept, group * tokens, prefix) @ shared.values[0]
    own_weights = weights[..., prefix:].new_zeros(kept, group, rows * longest, longest)
    own_weights = own_weights.index_copy(2, packed, weights[..., prefix:]).view(kept, group, rows, longest, longest)
    own = (own_weights @ value[:, padded][:, None]).view(kept, group, rows * longest, width)[:, :, packed]
    return seen.view(heads, tokens, width) + own.reshape(heads, tokens, width)


def _fused(query: Tensor, key: Tensor, value: Tensor, shared: SharedPrefixKV, scale: float) -> Tensor:
    """Both blocks by torch's fused kernels: no matrix of scores is ever stored."""
    packing = shared.packing
    joined: Tensor = _JoinedAttention.apply(
        query, key, value, shared.keys[0], shared.values[0], packing.padded, packing.packed, scale
    )
    return joined


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _JoinedAttention(torch.autograd.Function):
    """Two blocks of flash attention joined by their log-sum-exp, and the exact gradient of the whole.

    The fused backward pass only needs a block's inputs, the *joined* output and the *joined* log-sum-exp: with
    these, `exp(score - logsumexp)` is the joined weight, and each block yields its share of the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        padded: Tensor,
        packed: Tensor,
        scale: float,
    ) -> Tensor:
        heads, tokens, width = query.shape
        kept = key.shape[0]
        ctx.shape, ctx.scale = (heads, tokens, width, kept, *padded.shape), scale
        grouped = query.reshape(1, kept, -1, width)
        far, far_lse = _forward(grouped, prefix_key[None], prefix_value[None], 0.0, False, scale=scale)
        own = _rows(query, key, value, padded)
        near, near_lse = _forward(*own, 0.0, True, scale=scale)
        near, near_lse = _row(near, packed), _row(near_lse[..., None], packed)
        far, far_lse = far.reshape(heads, tokens, width), far_lse.reshape(heads, tokens, 1)
        lse = torch.logaddexp(far_lse, near_lse)
        out = far * (far_lse - lse).exp().to(far.dtype) + near * (near_lse - lse).exp().to(far.dtype)
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, padded, packed, out, lse[..., 0])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prefix_key, prefix_value, padded, packed, out, lse = ctx.saved_tensors
        heads, tokens, width, kept, _, longest = ctx.shape

        def grouped(tensor: Tensor) -> Tensor:
            return tensor.reshape(1, kept, -1, width)

        def rows(tensor: Tensor) -> Tensor:
            return tensor[:, padded].transpose(0, 1)

        far_query, far_key, far_value = _backward(
            grouped(gradient),
            grouped(query),
            prefix_key[None],
            prefix_value[None],
            grouped(out),
            lse.reshape(1, kept, -1),
            0.0,
            False,
            scale=ctx.scale,
        )
        # Places beyond a text's end repeat the row's first token; their gradient must count for nothing.
        inside = torch.zeros(padded.numel(), dtype=gradient.dtype, device=gradient.device).index_fill(0, packed, 1)
        own_gradient = rows(gradient) * inside.view(padded.shape[0], 1, longest, 1)
        own = _rows(query, key, value, padded)
        near = _backward(own_gradient, *own, rows(out), rows(lse), 0.0, True, scale=ctx.scale)
        own_query, own_key, own_value = (_row(part, packed) for part in near)
        if kept != heads:
            own_key, own_value = (part.view(kept, heads // kept, tokens, width).sum(1) for part in (own_key, own_value))
        whole_query = far_query.reshape(heads, tokens, width) + own_query
        return whole_query, own_key, own_value, far_key[0], far_value[0], None, None, None


def _rows(query: Tensor, key: Tensor, value: Tensor, padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The texts as a padded batch, `N x heads x L x d`, with one key head for each query head."""
    group = query.shape[0] // key.shape[0]
    if group > 1:
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
    return query[:, padded].transpose(0, 1), key[:, padded].transpose(0, 1), value[:, padded].transpose(0, 1)


def _row(batch: Tensor, packed: Tensor) -> Tensor:
    """A padded batch, `N x heads x L x d`, as one row, `heads x S x d`."""
    return batch.transpose(0, 1).flatten(1, 2)[:, packed]
