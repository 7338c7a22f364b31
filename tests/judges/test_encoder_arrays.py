"""The encoder in numpy computes what the encoder in torch computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf

from equipoise.judges.encoder_arrays import ArrayEncoder, _gelu
from equipoise.judges.encoder_network import Encoder, EncoderShape
from equipoise.judges.int8 import dequantize_rows, quantize_rows

SHAPE = EncoderShape(vocabulary=50, positions=40, width=24, inner=48, heads=3, layers=2)


@pytest.fixture(scope="module")
def network() -> Encoder:
    torch.manual_seed(0)
    model = Encoder(SHAPE).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * (0.3 if "norm" not in name else 1.0))
    return model


@pytest.mark.parametrize(("length", "reply"), [(2, 1), (7, 3), (40, 39), (40, 1)])
def test_logits_are_those_of_torch(network: Encoder, length: int, reply: int) -> None:
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    arrays = ArrayEncoder.of(state, SHAPE.heads, SHAPE.layers)
    ids = np.random.default_rng(length).integers(0, SHAPE.vocabulary, length).tolist()
    with torch.inference_mode():
        expected = network(torch.tensor([ids]), (torch.arange(length) >= reply)[None])[0].numpy()
    assert np.allclose(arrays.logits(ids, reply), expected, atol=2e-5)


def test_weights_in_8_bits_are_read_as_torch_reads_them(network: Encoder) -> None:
    small = quantize_rows(network.state_dict())
    arrays = ArrayEncoder.of({name: value.numpy() for name, value in small.items()}, SHAPE.heads, SHAPE.layers)
    whole: dict[str, Any] = dequantize_rows(small)
    assert set(arrays.weights) == set(whole)
    for name, value in whole.items():
        assert np.array_equal(arrays.weights[name], value.numpy())


def test_the_activation_is_exact_to_the_precision_of_its_numbers() -> None:
    value = np.linspace(-12, 12, 4001, dtype=np.float32)
    exact = 0.5 * value.astype(float) * (1 + erf(value.astype(float) / np.sqrt(2)))
    assert np.abs(_gelu(value) - exact).max() < 1e-6
