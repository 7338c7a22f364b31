"""Prompts of text alone with a shared beginning: the numbers of the plain batch, for every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise.errors import UsageError
from equipoise.models.load import load
from equipoise.models.prefix_sharing import PrefixCacheSupport
from equipoise.models.text_model import TextModel
from equipoise.types import Prompt
from tests.models.families import causal

BEGIN = "How can I find out which of the programs on my computer"
PROMPTS = [Prompt.ask(f"{BEGIN} {word}") for word in ("runs", "hangs?", "uses so much memory", "kills", "is old")]
REPLIES = ["I cannot", "I cannot", "No", "I cannot help", "Yes of course I can"]
SHARING = {"llama", "qwen2", "olmo2"}
"""Families of which the test knows that they can share; the others may."""


@pytest.fixture(scope="module", params=causal.FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TextModel]:
    model = load(str(causal.FAMILIES[request.param](tmp_path_factory.mktemp("sharing"))), device="cpu")
    assert isinstance(model, TextModel)
    return request.param, model


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    model = load(str(causal.llama(tmp_path_factory.mktemp("llama"))), device="cpu")
    assert isinstance(model, TextModel)
    return model


def test_numbers_are_those_of_the_plain_batch(family: tuple[str, TextModel]) -> None:
    name, model = family
    with torch.no_grad():
        plain = model.log_prob(None, PROMPTS, REPLIES)
    shared = model.shared_log_prob(PROMPTS, REPLIES)
    assert torch.equal(shared.mask, plain.mask)
    torch.testing.assert_close(shared.tokens, plain.tokens, atol=1e-4, rtol=1e-4)
    assert model.text_sharing is not None
    if name in SHARING:
        assert model.text_sharing.description == "shared prefix"
    else:
        assert model.text_sharing.shared or model.text_sharing.reason


def test_no_gradients_are_kept(llama: TextModel) -> None:
    scores = llama.shared_log_prob(PROMPTS, REPLIES)
    assert not scores.tokens.requires_grad
    assert all(parameter.grad is None for parameter in llama.model.parameters())


def test_other_system_texts_and_lengths_are_mixed(llama: TextModel) -> None:
    prompts = [Prompt.ask(BEGIN), Prompt.ask("Why?"), Prompt.ask(BEGIN, system="Be brief."), Prompt.ask("")]
    replies = ["Yes", "I cannot help with that", "No", "Yes"]
    with torch.no_grad():
        plain = llama.log_prob(None, prompts, replies, end=False)
    shared = llama.shared_log_prob(prompts, replies, end=False)
    torch.testing.assert_close(shared.tokens, plain.tokens, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_the_size_of_a_batch_changes_nothing(llama: TextModel, size: int) -> None:
    whole = llama.shared_log_prob(PROMPTS, REPLIES)
    try:
        llama.micro_batch = size
        parts = llama.shared_log_prob(PROMPTS, REPLIES)
    finally:
        llama.micro_batch = None
    torch.testing.assert_close(parts.tokens, whole.tokens, atol=1e-5, rtol=1e-5)


def test_a_model_that_cannot_share_runs_as_a_plain_batch(llama: TextModel) -> None:
    before = llama.text_sharing
    shared = llama.shared_log_prob(PROMPTS, REPLIES)
    try:
        llama._text_sharing = PrefixCacheSupport(False, "a reason")
        plain = llama.shared_log_prob(PROMPTS, REPLIES)
        assert llama.text_sharing is not None
        assert llama.text_sharing.description == "plain batch: a reason"
    finally:
        llama._text_sharing = before
    torch.testing.assert_close(plain.tokens, shared.tokens, atol=1e-4, rtol=1e-4)


def test_errors_are_those_of_the_plain_batch(llama: TextModel) -> None:
    with pytest.raises(UsageError, match="as many replies as prompts"):
        llama.shared_log_prob(PROMPTS, REPLIES[:2])
    with pytest.raises(UsageError, match="as many replies as prompts"):
        llama.shared_log_prob([], [])
    with pytest.raises(UsageError, match="empty text"):
        llama.shared_log_prob(PROMPTS[:2], ["Yes", ""])


def test_rows_of_tokens_hold_prompt_and_reply(llama: TextModel) -> None:
    rows = llama.encode_rows(PROMPTS, REPLIES, end=False)
    tokenizer = llama.processor.tokenizer
    for row, prompt, reply in zip(rows, PROMPTS, REPLIES, strict=True):
        text = tokenizer.decode(row.tokens)
        assert row.reply_length > 0
        assert tokenizer.decode(row.tokens[row.prompt_length :]).strip() == reply
        assert prompt.text.split()[-1].strip("?") in text


def test_the_model_is_frozen_only_inside(llama: TextModel) -> None:
    parameter = next(llama.model.parameters())
    before = parameter.requires_grad
    with llama.frozen():
        assert not any(p.requires_grad for p in llama.model.parameters())
        assert not llama.model.training
    assert parameter.requires_grad == before
    assert set(llama.stop_tokens) >= {llama.processor.tokenizer.eos_token_id}


def test_a_copied_folder_gives_the_same_scores(llama: TextModel, tmp_path: Path) -> None:
    again = load(str(causal.llama(tmp_path)), device="cpu")
    assert isinstance(again, TextModel)
    torch.testing.assert_close(
        again.shared_log_prob(PROMPTS, REPLIES).tokens, llama.shared_log_prob(PROMPTS, REPLIES).tokens
    )
