"""Labels that skip the prompt, padding, and the loss at the labelled positions alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    Qwen2Config,
)

from equipoise.errors import ModelError
from equipoise.training.causal_lm import IGNORED, CausalCollator, labelled_loss, load_base, token_row
from equipoise.training.lora import add_adapters
from tests.guard.tiny_models import decoder

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    # These three change their logits after the output layer: a soft cap, a divisor, a factor.
    "gemma2": Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=16, final_logit_softcapping=2.0),
    "granite": GraniteConfig(**SIZES, num_key_value_heads=2, logits_scaling=7.0),
    "cohere": CohereConfig(**SIZES, num_key_value_heads=2, logit_scale=0.5),
}
ROWS = [token_row([5, 6, 7], [8, 9, 10, 11]), token_row([5], [12]), token_row([6] * 9, [13, 14])]


def causal_lm(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()


@pytest.mark.parametrize("family", CONFIGS)
def test_the_loss_and_its_gradient_equal_those_of_all_positions(family: str) -> None:
    model, batch = causal_lm(family), CausalCollator(0)(ROWS)
    whole = model(**batch).loss
    whole.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    part = labelled_loss(model, batch)
    part.backward()
    torch.testing.assert_close(part, whole)
    for name, weight in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(weight.grad, expected[name], atol=1e-6, rtol=1e-4)


def test_the_loss_reaches_adapters_and_leaves_no_hook() -> None:
    model = add_adapters(causal_lm("llama"), 2)
    labelled_loss(model, CausalCollator(0)(ROWS)).backward()
    assert any(weight.grad is not None for name, weight in model.named_parameters() if "lora_B" in name)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_hook_is_removed_when_the_model_fails() -> None:
    model = causal_lm("llama")
    with pytest.raises(IndexError):
        labelled_loss(model, CausalCollator(0)([token_row([5], [49_999])]))
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_the_prompt_has_no_labels() -> None:
    row = token_row([1, 2], [3, 4])
    assert row == {"input_ids": [1, 2, 3, 4], "labels": [IGNORED, IGNORED, 3, 4]}


def test_padding_is_neither_attended_to_nor_learned() -> None:
    batch = CausalCollator(7)(ROWS)
    assert batch["input_ids"].shape == (3, 11)
    assert batch["attention_mask"].sum(1).tolist() == [7, 2, 11]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORED).all()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_is_loaded_in_the_given_format(tmp_path: Path, dtype: torch.dtype) -> None:
    model, tokenizer = load_base(str(decoder(tmp_path)), dtype=dtype)
    assert model.dtype == dtype
    assert tokenizer.eos_token_id == 3


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^expected .*; try "):
        load_base(str(tmp_path))
