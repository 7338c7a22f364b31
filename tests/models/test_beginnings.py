"""Every prompt begins with one BOS where its model has one, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import encode
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Prompt
from tests.training.derta.tokenizer_kinds import KINDS, text_model

TEMPLATED = Prompt.ask("How many shapes are there?")
BARE = replace(Prompt.ask("There are three shapes in the picture"), templated=False)
BATCHES = [[TEMPLATED, BARE], [BARE, TEMPLATED]]


def beginnings(model: HuggingFaceModel, prompts: list[Prompt]) -> list[int]:
    bos = model.processor.tokenizer.bos_token_id
    return [int(count) for count in (model.prompt_inputs(prompts)["input_ids"] == bos).sum(1)]


@pytest.mark.parametrize("batch", BATCHES)
def test_templated_and_other_prompts_in_one_batch(model: HuggingFaceModel, batch: list[Prompt]) -> None:
    assert beginnings(model, batch) == [1, 1]
    together = [exchange.reply for exchange in model.generate(batch, max_new_tokens=8)]
    assert together == [model.generate([prompt], max_new_tokens=8)[0].reply for prompt in batch]


@pytest.mark.parametrize("batch", BATCHES)
def test_rows_of_replies_have_the_tokens_of_generation(model: HuggingFaceModel, batch: list[Prompt]) -> None:
    for row, prompt in zip(model.encode_rows(batch, ["Yes."] * 2), batch, strict=True):
        alone = model.prompt_inputs([prompt])["input_ids"][0]
        assert torch.equal(row.tokens[: row.prompt_length], alone)


def test_a_text_that_brings_its_own_beginning(model: HuggingFaceModel) -> None:
    own = replace(BARE, messages=(replace(BARE.messages[0], text=f"<s>{BARE.text}"),))
    batch = [TEMPLATED, own, BARE]
    assert beginnings(model, batch) == [1, 1, 1]
    together = [exchange.reply for exchange in model.generate(batch, max_new_tokens=8)]
    assert together == [model.generate([prompt], max_new_tokens=8)[0].reply for prompt in batch]


def test_texts_are_completed_one_by_one(model: HuggingFaceModel) -> None:
    tokenizer = model.processor.tokenizer
    outputs = encode(model.processor, None, ["<s>Why?", "Why?"], padding=True)["input_ids"]
    assert outputs[0].tolist() == outputs[1].tolist()
    assert outputs[0, 0] == tokenizer.bos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_text_models_begin_all_prompts_alike(kind: str) -> None:
    model = text_model(kind)
    chat = ConversationFormat(model.processor)
    bos = model.processor.tokenizer.bos_token
    assert chat.render(TEMPLATED).startswith(bos) == chat.render(BARE).startswith(bos) == kind.endswith("bos")
