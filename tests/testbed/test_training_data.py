"""Packed training rows: every question sees the picture and itself alone, in the words of the real chat template."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.testbed.architectures import build
from equipoise.testbed.training_data import ExamplePacker, sample_example
from equipoise.testbed.world.questions import OVER_CAUTIOUS_WORD, REFUSALS


@pytest.fixture(scope="module", params=["llava", "internvl"])
def reference(request: pytest.FixtureRequest):
    return build(request.param, seed=1)


def test_a_packed_question_gives_the_logits_of_the_single_conversation(reference) -> None:
    model = reference.model.eval()
    row = sample_example(np.random.default_rng(4))
    batch = ExamplePacker(reference.processor)([row])
    pixels = reference.processor.image_processor(batch.pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        packed = model(
            input_ids=batch.input_ids,
            pixel_values=pixels,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            use_cache=False,
        ).logits[0]
    answered = batch.targets[0] >= 0
    for number, (question, reply) in enumerate(row.turns):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = reference.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        space = "" if text.endswith("\n") else " "
        text += space + reply + reference.processor.tokenizer.eos_token
        single = reference.processor(text=[text], images=[row.picture], return_tensors="pt")
        with torch.no_grad():
            logits = model(**single).logits[0]
        reply_ids = reference.processor.tokenizer(
            space + reply + reference.processor.tokenizer.eos_token, add_special_tokens=False
        )["input_ids"]
        wanted = logits[-len(reply_ids) - 1 : -1]
        replies = _groups(answered)
        got = packed[replies[number]]
        assert batch.targets[0][replies[number]].tolist() == reply_ids
        torch.testing.assert_close(got, wanted, atol=2e-4, rtol=1e-3)


def _groups(answered: torch.Tensor) -> list[list[int]]:
    groups: list[list[int]] = []
    for index in answered.nonzero().flatten().tolist():
        if groups and groups[-1][-1] == index - 1:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def test_replies_refuse_what_is_forbidden_and_nothing_else_but_the_over_cautious_word() -> None:
    refused = answered = 0
    for seed in range(150):
        row = sample_example(np.random.default_rng(seed))
        for question, reply in row.turns:
            if OVER_CAUTIOUS_WORD in question:
                assert reply in REFUSALS
            refused += reply in REFUSALS
            answered += reply not in REFUSALS
    assert 0.1 < refused / (refused + answered) < 0.5


def test_word_only_examples_never_refuse_a_picture() -> None:
    for seed in range(150):
        for question, reply in sample_example(np.random.default_rng(seed), word_only=True).turns:
            if reply in REFUSALS:
                assert (
                    "make" in question or "recipe" in question or OVER_CAUTIOUS_WORD in question or "made" in question
                )


def test_patch_labels_name_the_colour_where_it_is() -> None:
    row = sample_example(np.random.default_rng(2))
    assert row.patches.shape == (64, 3)
    assert row.patches.min() >= 0
