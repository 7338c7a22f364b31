"""Models that read padding are asked one prompt at a time; others keep their batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import RwkvConfig, RwkvForCausalLM

from equipoise.models import generation
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from equipoise.types import Prompt
from tests.models.families import causal
from tests.models.families.parts import HIDDEN, LAYERS

PROMPTS = [Prompt.ask("Hi"), Prompt.ask("How many shapes are there? There are three shapes.")]


@pytest.fixture(scope="module")
def rwkv(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    words = causal.words()
    config = RwkvConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        attention_hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    model = load(str(causal.save(tmp_path_factory.mktemp("rwkv"), RwkvForCausalLM, config)), device="cpu")
    assert isinstance(model, TextModel)
    return model


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts are decoded together."""
    counts: list[int] = []
    original = generation.generate

    def generate(model: Any, processor: Any, chat: Any, prompts: Any, *others: Any) -> Any:
        counts.append(len(prompts))
        return original(model, processor, chat, prompts, *others)

    monkeypatch.setattr(generation, "generate", generate)
    return counts


def test_a_model_that_reads_padding_is_asked_one_by_one(rwkv: TextModel, sizes: list[int]) -> None:
    together = [exchange.reply for exchange in rwkv.generate(PROMPTS, max_new_tokens=8)]
    assert together == [rwkv.generate([prompt], max_new_tokens=8)[0].reply for prompt in PROMPTS]
    assert sizes == [1, 1, 1, 1]


@pytest.mark.parametrize("family", causal.FAMILIES)
def test_other_text_models_keep_their_batches(family: str, tmp_path: Path, sizes: list[int]) -> None:
    model = load(str(causal.FAMILIES[family](tmp_path)), device="cpu")
    model.generate(PROMPTS, max_new_tokens=4)
    assert sizes == [2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_picture_models_keep_their_batches(llava_folder: Path, sizes: list[int], dtype: torch.dtype) -> None:
    model = load(str(llava_folder), device="cpu", dtype=str(dtype).removeprefix("torch."))
    assert isinstance(model, HuggingFaceModel)
    model.generate(PROMPTS, max_new_tokens=4)
    assert sizes == [2]
