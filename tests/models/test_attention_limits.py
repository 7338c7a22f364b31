"""Texts above a limit of attention get the numbers of single prompts, also where a shared prefix is exact below it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from equipoise.models.attention_limits import context_limit, position_limit, seeing_limit, token_index_limit
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.prefix_sharing import unsupported_reason
from equipoise.models.text_model import TextModel
from equipoise.types import Prompt
from tests.models.families import causal
from tests.models.families.llama4 import llama4
from tests.models.families.parts import HEADS, HIDDEN, text

REPLY = "There are three shapes."


def test_a_context_that_grows_with_the_text_has_no_limit() -> None:
    def config(**rope: Any) -> SimpleNamespace:
        return SimpleNamespace(config=LlamaConfig(max_position_embeddings=64, rope_parameters=rope or None))

    assert context_limit(config()) == 64
    assert context_limit(config(rope_type="dynamic", factor=2.0, rope_theta=1e4)) is None
    assert context_limit(SimpleNamespace(config=SimpleNamespace())) is None


def model_with(**settings: Any) -> SimpleNamespace:
    config = SimpleNamespace(**settings)
    config.get_text_config = lambda decoder: config
    return SimpleNamespace(config=config)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, None),
        ({"sliding_window": 64}, 64),
        ({"sliding_window": None}, None),
        ({"sliding_window": 64, "use_sliding_window": False}, None),
        ({"sliding_window": 64, "layer_types": ["full_attention"]}, None),
        ({"sliding_window": 64, "layer_types": ["sliding_attention"]}, 64),
        ({"attention_chunk_size": 32}, 32),
        ({"attention_chunk_size": 32, "layer_types": ["full_attention"]}, None),
        ({"attention_chunk_size": 32, "sliding_window": 64, "layer_types": ["chunked_attention"]}, 32),
        ({"index_topk": 16, "sliding_window": 64}, 16),
        ({"keep_window_size": 48}, 48),
        (
            {
                "is_heterogeneous": True,
                "per_layer_config": [SimpleNamespace(sliding_window=64), SimpleNamespace(sliding_window=8)],
            },
            8,
        ),
    ],
)
def test_the_shortest_sighted_layer_counts(settings: dict[str, Any], limit: int | None) -> None:
    assert seeing_limit(model_with(**settings)) == limit


@pytest.mark.parametrize(
    ("rope", "limit"),
    [
        (None, None),
        ({"rope_type": "default"}, None),
        ({"rope_type": "llama3", "original_max_position_embeddings": 10}, None),
        ({"rope_type": "longrope", "original_max_position_embeddings": 10}, 10),
        ({"rope_type": "dynamic", "factor": 2.0}, 100),
        ({"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "dynamic"}}, 100),
    ],
)
def test_frequencies_that_depend_on_the_longest_row(rope: dict[str, Any] | None, limit: int | None) -> None:
    assert position_limit(model_with(rope_parameters=rope, max_position_embeddings=100)) == limit


@pytest.mark.parametrize("kind", ["indexed_attention", "minimax_m3_sparse", "linear_attention", "hybrid"])
def test_layers_that_choose_tokens_share_nothing(kind: str) -> None:
    model = model_with(layer_types=["full_attention", kind], is_encoder_decoder=False)
    model.config.get_text_config = lambda decoder=True: model.config
    assert unsupported_reason(model, SimpleNamespace()) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_chunk_size": 128},
        {"attn_temperature_tuning": True, "floor_scale": 230, "attn_scale": 5.0},
    ],
)
def test_llama_4_above_its_limits(settings: dict[str, Any], tmp_path: Path) -> None:
    llama4(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"].update(settings)
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load(str(tmp_path), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    assert model.sharing == "shared prefix"
    pixels = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    prompts = [Prompt.ask("What is in the picture? " * 9), Prompt.ask("How many shapes are there? " * 14)]
    shared = model.log_prob(pixels, prompts, [REPLY] * 2).total
    alone = [model.log_prob(pixels, [prompt], [REPLY]).total.item() for prompt in prompts]
    assert shared.tolist() == pytest.approx(alone, abs=1e-3)


def test_longrope_above_its_limit(tmp_path: Path) -> None:
    half = HIDDEN // HEADS // 2
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * half,
        "long_factor": [8.0] * half,
        "original_max_position_embeddings": 100,
        "factor": 8.0,
    }
    causal.save(tmp_path, LlamaForCausalLM, LlamaConfig(**text(causal.words(), rope_parameters=rope)))
    model = load(str(tmp_path), device="cpu")
    assert isinstance(model, TextModel)
    assert position_limit(model.model) == 100
    short = [Prompt.ask("What is in the picture?"), Prompt.ask("What is in the image?")]
    model.shared_log_prob(short, [REPLY] * 2)
    assert model.text_sharing is not None
    assert model.text_sharing.shared
    # The prefix alone is below the limit.
    prompts = [Prompt.ask(question * 12) for question in ("How many shapes are there? ", "What is in the picture? ")]
    shared = model.shared_log_prob(prompts, [REPLY] * 2).total
    alone = [model.log_prob(None, [prompt], [REPLY]).total.item() for prompt in prompts]
    assert shared.tolist() == pytest.approx(alone, abs=1e-3)
    # A row of a batch keeps the frequencies of its own length, too.
    mixed = [short[0], prompts[0]]
    together = model.log_prob(None, mixed, [REPLY] * 2).total
    expected = [model.log_prob(None, [prompt], [REPLY]).total.item() for prompt in mixed]
    assert together.tolist() == pytest.approx(expected, abs=1e-3)
    replies = [exchange.reply for exchange in model.generate(mixed, max_new_tokens=8)]
    assert replies == [model.generate([prompt], max_new_tokens=8)[0].reply for prompt in mixed]


def test_only_layers_without_positions_count_indices() -> None:
    assert token_index_limit(model_with(attn_temperature_tuning=True, floor_scale=100, no_rope_layers=[1, 0])) == 99
    assert token_index_limit(model_with(attn_temperature_tuning=True, floor_scale=100, no_rope_layers=[1, 1])) is None
    assert token_index_limit(model_with(attn_temperature_tuning=False, floor_scale=100, no_rope_layers=[0])) is None
