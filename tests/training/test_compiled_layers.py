"""Compiled decoder layers compute what plain ones compute, for any length of a batch, and are gone afterwards."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import UsageError
from equipoise.models.language_tower import decoder_layers
from equipoise.training.compiled_layers import compiled_layers
from equipoise.training.lora import add_adapters


@pytest.fixture
def model() -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=50,
        use_cache=False,
    )
    return add_adapters(transformers.LlamaForCausalLM(config), 2)


def compiled_calls(model: Any) -> list[bool]:
    """Whether each decoder layer has a compiled call."""
    return [layer._compiled_call_impl is not None for layer in decoder_layers(model)]


@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_layers_give_the_same_loss_and_gradients_at_every_length(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backend of this test runs the traced graphs without the C++ compiler, which would take a minute.
    compile_layer = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: compile_layer(self, backend="aot_eager", **options)
    )

    def loss_and_gradients(length: int, compiled: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
        ids = torch.arange(2 * length).view(2, length) % 50
        model.zero_grad()
        with compiled_layers(model, compiled):
            assert compiled_calls(model) == [compiled] * 2
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        return loss.detach(), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    for length in (4, 7):
        fast, plain = loss_and_gradients(length, True), loss_and_gradients(length, False)
        torch.testing.assert_close(fast[0], plain[0])
        assert len(fast[1]) == len(plain[1]) > 0
        for left, right in zip(fast[1], plain[1], strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-4)


def test_the_layers_are_plain_afterwards_even_after_an_error(model: Any) -> None:
    with pytest.raises(RuntimeError, match="of the training"), compiled_layers(model):
        raise RuntimeError("of the training")
    assert compiled_calls(model) == [False, False]


def test_nothing_happens_where_it_is_not_wanted(model: Any) -> None:
    with compiled_layers(model, False):
        assert compiled_calls(model) == [False, False]


def test_without_a_compiler_the_error_is_one_line(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="expected a C\\+\\+ compiler") as caught, compiled_layers(model):
        pass
    assert "\n" not in str(caught.value)
