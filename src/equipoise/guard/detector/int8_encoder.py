"""`Int8Encoder`: a BERT whose matrix products are computed in 8-bit integers, for detectors on ordinary processors.

A matrix W has a scale for each row, as it is stored (`judges/int8.py`), so that rounding it costs nothing further. The
input x of a product gets a scale for each token (LLM.int8(), arXiv:2208.07339, without its second precision): one
scale for the whole text would be that of its largest value, and the few large channels of a BERT would leave most
others no more than a few steps. The rest (attention, norms, GELU) is float32.
"""

from __future__ import annotations

import copy
import platform
import warnings
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS: Final = 127
"""Steps on either side of 0 of a weight."""
_GELU_SHIFT: Final = 0.17
"""GELU is nowhere below -0.17; with it added, its values have one sign and use all steps of their scale."""

_PIECE: Final = 128
"""Tokens that go through the feed-forward network at once."""


def has_int8_products() -> bool:
    """Whether torch has kernels here whose results `Int8Encoder` was tested with: those for x86."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and "fbgemm" in torch.backends.quantized.supported_engines and hasattr(torch, "quantize_per_channel")


def can_be_int8(config: Any) -> bool:
    """Whether `Int8Encoder` computes what a model of this configuration does: a BERT as an encoder."""
    return (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and not getattr(config, "is_decoder", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


@dataclass(frozen=True)
class EncoderOutput:
    """What callers of a transformers encoder read of its output."""

    last_hidden_state: Tensor
    """[windows, length, width], float32."""


class Int8Linear(nn.Module):
    """x W^T + b, with W in 8 bits and a scale for each row, x in 7 bits and a scale for each token.

    Args:
        weight: W [out, in].
        bias: b [out].
        shift: added to x before it is rounded and taken off the result; for an x that is nowhere below `-shift`.
    """

    bias: Tensor
    bounds: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, shift: float = 0.0) -> None:
        super().__init__()
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-12).double() / _LEVELS
        with warnings.catch_warnings():
            # Torch announces that these tensors will go in a future release; `has_int8_products` asks for them.
            warnings.simplefilter("ignore")
            rounded = torch.quantize_per_channel(
                weight, scale, torch.zeros(len(scale), dtype=torch.long), axis=0, dtype=torch.qint8
            )
        self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        self.shift = shift
        # W (x + s) + b - s W 1 = W x + b.
        self.register_buffer("bias", bias.detach().float() - shift * rounded.dequantize().sum(1))
        # Torch chooses the range of x by its least and its largest value, over the whole batch. A further row with the
        # bounds that every token has after its scale fixes the range, so that a text's score does not depend on which
        # other texts it is batched with.
        bounds = torch.zeros(1, weight.shape[1])
        bounds[0, 0] = 1.0
        if not shift:
            bounds[0, 1] = -1.0
        self.register_buffer("bounds", bounds)

    def forward(self, values: Tensor) -> Tensor:
        """The product for each token: [tokens, in] to [tokens, out]."""
        rows = torch.empty(len(values) + 1, values.shape[1])
        if self.shift:
            torch.add(values, self.shift, out=rows[:-1])
            largest = rows[:-1].amax(-1, keepdim=True)
        else:
            rows[:-1] = values
            largest = values.abs().amax(-1, keepdim=True)
        largest.clamp_(min=1e-12)
        rows[:-1] /= largest
        rows[-1:] = self.bounds
        # 7 bits (the last argument): kernels for AVX2 add pairs of products in 16 bits, which 8 bits would overflow.
        product = torch.ops.quantized.linear_dynamic(rows, self._packed, True)[:-1]
        return torch.addcmul(self.bias, product, largest)


class Int8Layer(nn.Module):
    """One layer of a BERT: attention with query, key and value in one product, then the feed-forward network.

    Args:
        layer: of transformers' `BertModel`, in evaluation mode.
        heads: of its attention.
    """

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        own, joined = layer.attention.self, layer.attention.output
        parts = (own.query, own.key, own.value)
        self.heads = heads
        self.inputs = Int8Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))
        self.joined = Int8Linear(joined.dense.weight, joined.dense.bias)
        self.wide = Int8Linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias)
        self.narrow = Int8Linear(layer.output.dense.weight, layer.output.dense.bias, shift=_GELU_SHIFT)
        self.after_attention = copy.deepcopy(joined.LayerNorm)
        self.after_network = copy.deepcopy(layer.output.LayerNorm)

    def forward(self, hidden: Tensor, mask: Tensor | None, windows: int) -> Tensor:
        """Hidden states [windows * length, width] to those after this layer.

        Args:
            hidden: of all tokens.
            mask: which tokens are attended to [windows, 1, 1, length], bool; None where there is no padding.
            windows: how many.
        """
        width = hidden.shape[1] // self.heads
        queries, keys, values = self.inputs(hidden).view(windows, -1, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        attended = attended.transpose(1, 2).reshape(hidden.shape)
        hidden = self.after_attention(self.joined(attended) + hidden)
        # A few tokens at a time: the network's inner values are four times as wide as the rest and would leave the
        # processor's cache between one operation and the next.
        pieces = [self.narrow(functional.gelu(self.wide(piece))) for piece in hidden.split(_PIECE)]
        return self.after_network(torch.cat(pieces) + hidden)


class Int8Encoder(nn.Module):
    """A BERT in 8-bit integers: called like transformers' `BertModel`, without gradients.

    Args:
        base: a `BertModel` with float32 weights on the CPU; it is not changed.

    Raises:
        ValueError: another kind of model (see `can_be_int8`).
    """

    positions: Tensor

    def __init__(self, base: Any) -> None:
        super().__init__()
        if not can_be_int8(base.config):
            raise ValueError(f"expected a BERT encoder, got {base.config.model_type}; try computing it in float32")
        self.config = base.config
        embeddings = base.embeddings
        # The table itself, not a copy: an early exit shares it.
        self.words = embeddings.word_embeddings
        # Only one kind of segment is ever read, so that its vector can be added to the positions once.
        kind = embeddings.token_type_embeddings.weight[0]
        self.register_buffer("positions", (embeddings.position_embeddings.weight + kind).detach().clone())
        self.norm = copy.deepcopy(embeddings.LayerNorm)
        self.layers = nn.ModuleList(Int8Layer(layer, base.config.num_attention_heads) for layer in base.encoder.layer)
        self.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        """The table of token embeddings."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> EncoderOutput:
        """Hidden states of the last layer.

        Args:
            input_ids: [windows, length].
            attention_mask: 1 on text [windows, length]; all of it by default.
        """
        windows, length = input_ids.shape
        hidden = self.norm(self.words(input_ids) + self.positions[:length]).view(windows * length, -1)
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask.bool()[:, None, None]
        for layer in self.layers:
            hidden = layer(hidden, mask, windows)
        return EncoderOutput(hidden.view(windows, length, -1))
