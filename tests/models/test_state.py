"""Every change of a model for a computation is undone, and recomputed activations give the same gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from equipoise.models.attention import IMPLEMENTATION
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.state import attention_implementation, frozen, recomputed_activations, shifted_embeddings


class Layer(GradientCheckpointingLayer):
    """A layer that counts its forward passes and notes the state in which they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.training_flags: list[bool] = []

    def forward(self, values: Tensor) -> Tensor:
        self.training_flags.append(self.training)
        return self.linear(values).tanh()


class Network(nn.Module):
    """Embeddings and two layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(5, 4)
            self.layers = nn.ModuleList([Layer(), Layer()])

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            values = layer(values)
        return values


def flags(network: nn.Module) -> tuple[list[bool], list[bool]]:
    modes = [module.training for module in network.modules()]
    return modes, [parameter.requires_grad for parameter in network.parameters()]


@settings(max_examples=30, deadline=None)
@given(
    modes=st.lists(st.booleans(), min_size=7, max_size=7),
    trainable=st.lists(st.booleans(), min_size=5, max_size=5),
    fails=st.booleans(),
)
def test_any_mixture_of_modes_and_gradient_flags_is_restored(
    modes: list[bool], trainable: list[bool], fails: bool
) -> None:
    network = Network()
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode
    for parameter, flag in zip(network.parameters(), trainable, strict=True):
        parameter.requires_grad_(flag)
    try:
        with frozen(network):
            assert flags(network) == ([False] * 7, [False] * 5)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert flags(network) == (modes, trainable)


def test_positions_of_the_last_forward_pass_are_restored() -> None:
    network = Network()
    before = torch.tensor([[3]])
    network.rope_deltas = before
    with frozen(network):
        network.rope_deltas = torch.tensor([[7]])
    assert network.rope_deltas is before


def input_gradient(network: Network, context: AbstractContextManager[None]) -> Tensor:
    values = torch.linspace(-1, 1, 8).view(2, 4).requires_grad_(True)
    with frozen(network), context:
        loss = network(values).square().sum()
    (gradient,) = torch.autograd.grad(loss, values)
    return gradient


def test_recomputed_activations_change_no_gradient_and_leave_no_wrapper() -> None:
    network = Network()
    kept = input_gradient(network, nullcontext())
    assert [len(layer.training_flags) for layer in network.layers] == [1, 1]
    assert torch.equal(input_gradient(network, recomputed_activations(network)), kept)
    # Twice more: in the forward pass and in the backward pass.
    assert [len(layer.training_flags) for layer in network.layers] == [3, 3]
    assert all("forward" not in vars(layer) for layer in network.layers)


def test_the_recomputation_runs_in_the_mode_of_the_forward_pass() -> None:
    network = Network().train()
    values = torch.ones(2, 4, requires_grad=True)
    with frozen(network), recomputed_activations(network):
        loss = network(values).sum()
    assert network.layers[0].training
    # The backward pass comes after the model is in train mode again.
    loss.backward()
    assert network.layers[0].training_flags == [False, False]
    assert network.layers[0].training


def test_nothing_is_recomputed_without_gradients() -> None:
    network = Network()
    with recomputed_activations(network), torch.no_grad():
        network(torch.ones(2, 4))
    assert [len(layer.training_flags) for layer in network.layers] == [1, 1]


def test_an_exception_removes_the_wrappers() -> None:
    network = Network()
    with pytest.raises(ZeroDivisionError), recomputed_activations(network):
        raise ZeroDivisionError
    assert all("forward" not in vars(layer) for layer in network.layers)


def test_a_shift_is_added_to_inputs_of_its_own_shape_only_and_only_inside() -> None:
    network = Network()
    tokens, shift = torch.tensor([[0, 1, 2]]), torch.full((1, 3, 4), 0.5)
    plain = network.embedding(tokens)
    with shifted_embeddings(network, shift):
        assert torch.equal(network.embedding(tokens), plain + 0.5)
        assert torch.equal(network.embedding(tokens[:, :2]), plain[:, :2])
    with shifted_embeddings(network, None):
        assert torch.equal(network.embedding(tokens), plain)
    assert torch.equal(network.embedding(tokens), plain)


def test_the_attention_of_every_layer_is_set_and_restored(model: HuggingFaceModel) -> None:
    def implementations() -> set[str]:
        return {
            module.config._attn_implementation
            for module in model.model.modules()
            if hasattr(module, "layer_idx") and hasattr(module, "config")
        }

    before = implementations()
    assert IMPLEMENTATION not in before
    with attention_implementation(model.model, IMPLEMENTATION):
        assert implementations() == {IMPLEMENTATION}
    assert implementations() == before
    with pytest.raises(ZeroDivisionError), attention_implementation(model.model, IMPLEMENTATION):
        raise ZeroDivisionError
    assert implementations() == before
