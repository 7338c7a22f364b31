"""Tiny random language towers of many kinds, with norm gains and gates that matter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.steering.steerable import Steerable
from tests.models.families import FAMILIES

VOCABULARY, WIDTH, DEPTH = 97, 32, 3
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16, "num_experts_per_tok": 2}
TEXT_TOWERS: dict[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 64},
    "gemma3_text": {"head_dim": 8, "sliding_window": 64},
    "glm4": {"head_dim": 8},
    "olmo2": {},
    "qwen3_moe": _EXPERTS,
    "mixtral": {"num_local_experts": 3},
    "gpt2": {"n_embd": WIDTH, "n_layer": DEPTH, "n_head": 4},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": WIDTH},
    "gemma4_text": {"head_dim": 8},
    "cohere2": {},
}
"""Model type to the settings that it needs beside the usual ones."""
PICTURE_TOWERS = ("LLaVA-1.5", "Qwen3-VL", "Mllama", "Gemma 3", "Idefics3", "InternVL")
"""Names in `FAMILIES`; Mllama's has a layer of cross-attention."""


def text_tower(kind: str, seed: int = 0) -> nn.Module:
    """A causal model in eval mode with seeded weights."""
    config = AutoConfig.for_model(kind, **(_SIZES | dict(TEXT_TOWERS[kind])))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim >= 2:
                    weight.normal_(0.0, (weight.numel() / weight.shape[0]) ** -0.5)
                else:
                    # Gains of one would hide a norm that stands in the wrong place.
                    weight.add_(0.3 * torch.randn_like(weight))
    return model


def token_rows(*lengths: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tokens, padded on the left."""
    longest = max(lengths)
    ids = torch.randint(3, VOCABULARY, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    return {"input_ids": ids * mask, "attention_mask": mask.long()}


def text_steerable(kind: str = "llama", seed: int = 0) -> Steerable:
    """A tiny causal model that passed its self-test."""
    return Steerable(text_tower(kind, seed), token_rows(7, 5), name=kind, revision=f"seed-{seed}")


def picture_model(name: str, folder: Path) -> HuggingFaceModel:
    """A tiny image-text-to-text model, written and loaded."""
    FAMILIES[name](folder)
    model = load(str(folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model
