"""Prompts are encoded once, replies continue them, and the common prefix ends where rows differ."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from equipoise.errors import UsageError
from equipoise.models import encoded_prompt
from equipoise.models.encoded_prompt import EncodedPrompt, common_prefix
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Prompt


def row(tokens: list[int], prompt_length: int) -> EncodedPrompt:
    return EncodedPrompt(torch.tensor(tokens), prompt_length, 0, {}, {}, "", ())


@st.composite
def batches(draw: st.DrawFn) -> list[EncodedPrompt]:
    """Rows that begin alike and differ anywhere, each with a prompt of two tokens or more."""
    start = draw(st.lists(st.integers(0, 2), max_size=5))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        tokens = start + draw(st.lists(st.integers(0, 2), min_size=3, max_size=6))
        rows.append(row(tokens, draw(st.integers(2, len(tokens) - 1))))
    return rows


@settings(max_examples=100, deadline=None)
@given(rows=batches(), limit=st.none() | st.integers(0, 8))
def test_the_common_prefix_is_the_longest_that_leaves_every_row_a_prompt_token(
    rows: list[EncodedPrompt], limit: int | None
) -> None:
    length = common_prefix(rows, limit=limit)
    most = min(prompt.prompt_length for prompt in rows) - 1
    most = most if limit is None else min(most, limit)
    assert 0 <= length <= most
    tokens = [prompt.tokens.tolist() for prompt in rows]
    assert all(line[:length] == tokens[0][:length] for line in tokens)
    if length < most:
        assert any(line[length] != tokens[0][length] for line in tokens)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts with which the processor was called."""
    texts: list[str] = []
    whole = encoded_prompt.encode

    def encode(processor: object, pictures: Any, prompts: list[str]) -> object:
        texts.extend(prompts)
        return whole(processor, pictures, prompts)

    monkeypatch.setattr(encoded_prompt, "encode", encode)
    return texts


def test_the_processor_runs_once_for_each_prompt(model: HuggingFaceModel, pixels: Tensor, calls: list[str]) -> None:
    prompts = [Prompt.ask("Is it raining or not?"), Prompt.ask("Who paints so wildly?")]
    replies = ["Yes.", "No.", "Maybe."]
    for _ in range(2):
        for prompt in prompts:
            model.encode(pixels, [prompt] * 3, replies)
    assert len(calls) == 2
    # Only the size of the pixels matters to the tokens.
    model.encode(1 - pixels, prompts, replies[:2])
    assert len(calls) == 2
    model.encode(pixels[:, :40], prompts[:1], replies[:1])
    assert len(calls) == 3


def test_other_replies_to_a_prompt_do_not_run_the_processor_again(
    model: HuggingFaceModel, pixels: Tensor, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt.ask(f"Is it {word} or not?") for word in ("dark", "late", "cold")]
    fresh = {}
    for reply in ("Yes.", "No."):
        for prompt in prompts:
            fresh[prompt.text, reply] = model.encode(pixels, [prompt], [reply])[0]
    assert len(calls) == 3
    # Rows from a kept prompt are those of a prompt that has just been read.
    monkeypatch.setattr(encoded_prompt, "PROMPTS_KEPT", 1)
    model._encoder._cache.clear()
    model._encoder._prompts.clear()
    for (text, reply), row in fresh.items():
        again = model.encode(pixels, [Prompt.ask(text)], [reply])[0]
        assert torch.equal(again.tokens, row.tokens)
        assert again.token_inputs.keys() == row.token_inputs.keys()
    calls.clear()
    model._encoder._cache.clear()
    model.encode(pixels, [Prompt.ask("Is it late or not?")], ["No."])
    assert len(calls) == 1, "only as many prompts are kept as there is room for"


def test_a_kept_prompt_keeps_its_other_pictures_and_not_the_first(model: HuggingFaceModel) -> None:
    first, other = Image.new("RGB", (30, 30), "red"), Image.new("RGB", (30, 30), "blue")
    model._encoder.encode_with_pictures(Prompt.ask("Why?", first, other), "No.", end=True)
    (kept,) = list(model._encoder._prompts.values())[-1:]
    assert kept.other_pictures == (other,)
    assert not any(isinstance(value, Image.Image) for value in kept.outputs.values())
    first_again = weakref.ref(first)
    del first
    gc.collect()
    assert first_again() is None


def test_further_pictures_belong_to_the_row(model: HuggingFaceModel, pixels: Tensor) -> None:
    one, other = (Image.new("RGB", (30, 30), colour) for colour in ("red", "blue"))
    first, second = model.encode(pixels, [Prompt.ask("Why?", one, one), Prompt.ask("Why?", one, other)], ["No."] * 2)
    assert first.other_pictures == (one,)
    assert second.other_pictures == (other,)


@pytest.mark.parametrize("reply", ["No.", " No.", "No.\n", "I'm sorry, but I can't.", "Nein, ä ö 😀"])
def test_tokens_of_a_reply_read_as_the_reply_and_follow_the_prompt(
    model: HuggingFaceModel, pixels: Tensor, reply: str
) -> None:
    ended, open_ended = (model.encode(pixels, [Prompt.ask("Why?")], [reply], end=end)[0] for end in (True, False))
    tokenizer = model.processor.tokenizer
    assert ended.reply_length == open_ended.reply_length + 1
    assert torch.equal(ended.tokens[:-1], open_ended.tokens)
    assert int(ended.tokens[-1]) == tokenizer.eos_token_id
    assert tokenizer.decode(open_ended.tokens[open_ended.prompt_length :]).strip() == reply.strip()
    assert 0 < ended.picture_end < ended.prompt_length
    for values in ended.token_inputs.values():
        assert values.shape[1] == len(ended.tokens)


def test_an_empty_reply_is_refused(model: HuggingFaceModel, pixels: Tensor) -> None:
    with pytest.raises(UsageError, match="expected a reply, got an empty text"):
        model.encode(pixels, [Prompt.ask("Why?")], [""])
