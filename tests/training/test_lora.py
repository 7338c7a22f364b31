"""Adapters: where they stand, that they begin as nothing, and what merging a share of them gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.training.causal_lm import load_base
from equipoise.training.lora import add_adapters, merge_adapters, scale_adapters
from tests.guard.tiny_models import decoder

IDS = torch.tensor([[4, 5, 6, 7]])


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return load_base(str(decoder(tmp_path / "base")))[0].eval()


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def with_change(model: Any) -> Any:
    """Adapters with a change of their own, as if trained."""
    adapted = add_adapters(model, 2)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return adapted.eval()


def test_new_adapters_change_nothing_and_alone_require_gradients(model: Any) -> None:
    before = logits(model)
    adapted = add_adapters(model, 2).eval()
    torch.testing.assert_close(logits(adapted), before)
    assert {"lora_" in name for name, weight in adapted.named_parameters() if weight.requires_grad} == {True}


def test_the_output_layer_has_no_adapter_and_every_other_linear_layer_has_one(model: Any) -> None:
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    adapted = add_adapters(model, 2)
    wrapped = {name for name, module in adapted.get_base_model().named_modules() if hasattr(module, "lora_A")}
    assert wrapped == linear - {"lm_head"}


def test_named_layers_alone_are_adapted(model: Any) -> None:
    adapted = add_adapters(model, 2, layers=["model.layers.0.mlp.up_proj"])
    wrapped = [name for name, module in adapted.get_base_model().named_modules() if hasattr(module, "lora_A")]
    assert wrapped == ["model.layers.0.mlp.up_proj"]


def test_merging_gives_the_adapted_model_without_adapters(model: Any) -> None:
    names = set(model.state_dict())
    adapted = with_change(model)
    expected = logits(adapted)
    merged = merge_adapters(adapted)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == names


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_change_is_merged(model: Any, share: float) -> None:
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    adapted = with_change(model)
    change = {
        name: module.get_delta_weight("default").detach().clone()
        for name, module in adapted.get_base_model().named_modules()
        if hasattr(module, "lora_A")
    }
    merged = dict(merge_adapters(adapted, share).named_parameters())
    for name, delta in change.items():
        expected = before[f"{name}.weight"] + share * delta
        torch.testing.assert_close(merged[f"{name}.weight"].detach(), expected)


def test_scaling_twice_multiplies(model: Any) -> None:
    adapted = with_change(model)
    factors = {name: weight.detach().clone() for name, weight in adapted.named_parameters()}
    scale_adapters(adapted, 0.5)
    scale_adapters(adapted, 0.5)
    for name, weight in adapted.named_parameters():
        torch.testing.assert_close(weight.detach(), factors[name] * (0.25 if "lora_B" in name else 1.0))
