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
    """`N x L` index in the row of each text's t-th token; 0 beyond its end."""
    packed: Tensor
    """`S` index of each token of the row in the flattened `N x L` table: the inverse of `padded`."""
    fused: bool
    """Whether the blocks may be computed by torch's fused kernels."""

    @classmethod
    def from_lengths(cls, lengths: list[int], device: torch.device, *, fused: bool) -> Packing:
        """The packing of texts of these lengths."""
        # For lengths 2 and 3: `padded` is [[0, 1, 0], [2, 3, 4]] and `packed` is [0, 1, 3, 4, 5].
        longest = max(lengths)
        count = torch.tensor(lengths)[:, None]
        start = count.cumsum(0) - count
        step = torch.arange(longest)[None]
        inside = step < count
        indices = torch.arange(len(lengths) * longest).view(len(lengths), longest)
        return cls(torch.where(inside, start + step, 0).to(device), indices[inside].to(device), fused)


@dataclass(frozen=True)
class SharedPrefixKV:
    """What the attention of one layer needs beside the new keys and values."""

    keys: Tensor
    """`1 x heads x P x d` of the prefix."""
    values: Tensor
    """`1 x heads x P x d` of the prefix."""
    packing: Packing
    """How the texts lie in the row."""


def attach_prefix(key: Tensor, prefix: SharedPrefixKV) -> Tensor:
    """A view of a layer's new keys that carries the layer's prefix to its attention function.

    transformers gives an attention function the layer's new keys as its cache returned them, and no argument of the
    caller's reaches both in every family. So the prefix travels as an attribute of the key tensor. Any operation on
    the tensor drops the attribute, which is wanted: a family that changes keys after the cache (a norm, a repeat)
    would attend to prefix keys without that change, and `attached_prefix` finds nothing instead.
    """
    # A view, so that the tensor of the caller stays without the attribute.
    view = key.view_as(key)
    view.shared_prefix = prefix  # type: ignore[attr-defined]
    return view


def attached_prefix(key: Tensor) -> SharedPrefixKV | None:
    """What `attach_prefix` attached to exactly this tensor; None where there is nothing."""
    return getattr(key, "shared_prefix", None)


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
        key: `1 x key_heads x S x d`; the view that `attach_prefix` returned.
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
    shared = attached_prefix(key)
    if shared is None:
        raise CannotShareError("its layers change keys after the cache")
    if attention_mask is not None or dropout or softcap is not None or s_aux is not None:
        raise CannotShareError("its attention is not plain (mask, dropout, softcap or sinks)")
    packing = shared.packing
    if sliding_window is not None and shared.keys.shape[2] + packing.padded.shape[1] > sliding_window:
        raise CannotShareError(f"its sliding window of {sliding_window} tokens is shorter than the text")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attention = (
        _flash_attention
        if packing.fused and query.dtype in FUSED_DTYPES and query.device.type == "cpu"
        else _matmul_attention
    )
    return attention(query[0], key[0], value[0], shared, scale).transpose(0, 1)[None], None


AttentionInterface.register(IMPLEMENTATION, shared_prefix_attention)


def _matmul_attention(query: Tensor, key: Tensor, value: Tensor, shared: SharedPrefixKV, scale: float) -> Tensor:
    """Both blocks by matrix products and one softmax; any device, any precision. Returns `heads x S x d`."""
    heads, tokens, width = query.shape
    key_heads = key.shape[0]
    # In grouped-query attention `group` query heads share one key head. They are stacked along the token axis, so
    # that one product serves the group and no key is repeated.
    group = heads // key_heads
    padded, packed = shared.packing.padded, shared.packing.packed
    rows, longest = padded.shape
    query = query * scale
    # To the prefix: every token sees all of it, so the packed row is used as it is.
    prefix_scores = query.reshape(key_heads, group * tokens, width) @ shared.keys[0].transpose(1, 2)
    # To the own text: as a padded batch, because texts must not see each other; then packed again.
    own_query = query.view(key_heads, group, tokens, width)[:, :, padded]
    own_scores = own_query @ key[:, padded].transpose(2, 3)[:, None]
    # Texts are padded on the right, so that the causal mask hides the padding from every real token, too.
    future = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    own_scores = own_scores.masked_fill(future, -torch.inf)
    own_scores = own_scores.view(key_heads, group, rows * longest, longest)[:, :, packed]
    # One softmax over both, as over the whole sequence; in float32, as transformers' eager attention does it.
    scores = torch.cat([prefix_scores.view(key_heads, group, tokens, -1), own_scores], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    length = shared.keys.shape[2]
    prefix_output = weights[..., :length].reshape(key_heads, group * tokens, length) @ shared.values[0]
    # From the packed row back to the padded table, whose further lines stay zero and add nothing.
    own_weights = weights[..., length:].new_zeros(key_heads, group, rows * longest, longest)
    own_weights = own_weights.index_copy(2, packed, weights[..., length:])
    own_weights = own_weights.view(key_heads, group, rows, longest, longest)
    own_output = (own_weights @ value[:, padded][:, None]).view(key_heads, group, rows * longest, width)[:, :, packed]
    return prefix_output.view(heads, tokens, width) + own_output.reshape(heads, tokens, width)


def _flash_attention(query: Tensor, key: Tensor, value: Tensor, shared: SharedPrefixKV, scale: float) -> Tensor:
    """Both blocks by torch's fused kernels: no matrix of scores is ever stored."""
    packing = shared.packing
    output: Tensor = _FlashPrefixAttention.apply(
        query, key, value, shared.keys[0], shared.values[0], packing.padded, packing.packed, scale
    )
    return output


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _FlashPrefixAttention(torch.autograd.Function):
    """Two blocks of flash attention joined by their log-sum-exp, and the exact gradient of the whole.

    Forward: with outputs `o1`, `o2` and log-sum-exps `l1`, `l2` of the two blocks, the attention over both is
    `o1 * exp(l1 - l) + o2 * exp(l2 - l)` where `l = logaddexp(l1, l2)`.

    Backward: the fused backward kernel needs a block's inputs, the *joined* output and the *joined* log-sum-exp. With
    these, `exp(score - l)` is the weight in the joint softmax, so that each block yields its share of the gradient.
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
        key_heads = key.shape[0]
        ctx.shape, ctx.scale = (heads, tokens, width, key_heads, *padded.shape), scale
        # The prefix block has no mask, so that the query heads of a group may be stacked as further tokens.
        grouped = query.reshape(1, key_heads, -1, width)
        prefix_out, prefix_lse = _forward(grouped, prefix_key[None], prefix_value[None], 0.0, False, scale=scale)
        # The two positional arguments are the rate of dropout and whether the block is causal.
        own_out, own_lse = _forward(*_pad(query, key, value, padded), 0.0, True, scale=scale)
        own_out, own_lse = _pack(own_out, packed), _pack(own_lse[..., None], packed)
        prefix_out, prefix_lse = prefix_out.reshape(heads, tokens, width), prefix_lse.reshape(heads, tokens, 1)
        lse = torch.logaddexp(prefix_lse, own_lse)
        prefix_share, own_share = (part.sub(lse).exp().to(prefix_out.dtype) for part in (prefix_lse, own_lse))
        out = prefix_out * prefix_share + own_out * own_share
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, padded, packed, out, lse[..., 0])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prefix_key, prefix_value, padded, packed, out, lse = ctx.saved_tensors
        heads, tokens, width, key_heads, _, longest = ctx.shape

        def grouped(tensor: Tensor) -> Tensor:
            return tensor.reshape(1, key_heads, -1, width)

        def batched(tensor: Tensor) -> Tensor:
            return tensor[:, padded].transpose(0, 1)

        prefix_query_grad, prefix_key_grad, prefix_value_grad = _backward(
            grouped(gradient),
            grouped(query),
            prefix_key[None],
            prefix_value[None],
            grouped(out),
            lse.reshape(1, key_heads, -1),
            0.0,
            False,
            scale=ctx.scale,
        )
        # Padding repeats the row's first token (index 0), so that its gradient must count for nothing.
        inside = torch.zeros(padded.numel(), dtype=gradient.dtype, device=gradient.device).index_fill(0, packed, 1)
        own_gradient = batched(gradient) * inside.view(padded.shape[0], 1, longest, 1)
        own = _pad(query, key, value, padded)
        own_grads = _backward(own_gradient, *own, batched(out), batched(lse), 0.0, True, scale=ctx.scale)
        query_grad, key_grad, value_grad = (_pack(part, packed) for part in own_grads)
        if key_heads != heads:
            # `_pad` repeated each key head for its group; the gradients of the copies add up.
            key_grad, value_grad = (
                part.view(key_heads, heads // key_heads, tokens, width).sum(1) for part in (key_grad, value_grad)
            )
        query_grad = prefix_query_grad.reshape(heads, tokens, width) + query_grad
        return query_grad, key_grad, value_grad, prefix_key_grad[0], prefix_value_grad[0], None, None, None


def _pad(query: Tensor, key: Tensor, value: Tensor, padded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The texts as a padded batch, `N x heads x L x d`, with one key head for each query head."""
    group = query.shape[0] // key.shape[0]
    if group > 1:
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
    return query[:, padded].transpose(0, 1), key[:, padded].transpose(0, 1), value[:, padded].transpose(0, 1)


def _pack(batch: Tensor, packed: Tensor) -> Tensor:
    """A padded batch, `N x heads x L x d`, as one row, `heads x S x d`."""
    return batch.transpose(0, 1).flatten(1, 2)[:, packed]
