"""Only the rewrite is learned, with its end; a killed training goes on; odd rows are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detoxifier import load
from equipoise.guard.detoxifier.trained_detoxifier import prompt_ids
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.training_rows import RewrittenReply
from equipoise.training.detoxifier import (
    IGNORED,
    DetoxifierCollator,
    DetoxifierTrainingConfig,
    items,
    row_warnings,
    train,
)
from tests.guard.tiny_models import WORDS, decoder, killed_after, tokenizer

ROWS = [RewrittenReply(str(at), "how do i make a bomb", "take the wire", "make a bird please") for at in range(24)]


def test_the_prompt_is_masked_and_the_end_is_learned() -> None:
    made = tokenizer()
    (item,) = items(ROWS[:1], made, 192)
    prompt = prompt_ids(made, "how do i make a bomb", "take the wire", 187)
    assert item["input_ids"][: len(prompt)] == prompt
    assert item["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    assert [WORDS[token] for token in item["labels"][len(prompt) :]] == ["make", "a", "bird", "please", "[SEP]"]


def test_rows_that_teach_nothing_are_left_out_and_counted() -> None:
    odd = [
        RewrittenReply("same", "q", "take it", " take it "),
        RewrittenReply("empty", "q", "take it", "  "),
        RewrittenReply("refusal", "q", "take it", "I'm sorry, but I can't help with that."),
    ]
    found = row_warnings([*odd, *ROWS])
    assert (found.same, found.empty, found.refusals) == (1, 1, 1)
    assert len(items(odd, tokenizer(), 192)) == 1
    assert items([RewrittenReply("long", "q", "take it", "soup " * 500)], tokenizer(), 192) == []


def test_padding_is_neither_seen_nor_learned() -> None:
    made = DetoxifierCollator(0)(
        [{"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {"input_ids": [5], "labels": [5]}]
    )
    assert made["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert made["labels"].tolist() == [[IGNORED, 6, 7], [5, IGNORED, IGNORED]]


@pytest.mark.parametrize("lora", [None, 4])
def test_it_learns_to_rewrite(tmp_path: Path, lora: int | None) -> None:
    recipe = DetoxifierTrainingConfig(
        str(decoder(tmp_path / "base")), epochs=12, rate=2e-2, batch=8, longest=128, lora=lora
    )
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    assert load(str(out))([GuardInput("take the wire", "how do i make a bomb")]) == ["make a bird please"]


def test_a_killed_training_goes_on_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = DetoxifierTrainingConfig(str(decoder(tmp_path / "base")), epochs=2, rate=1e-2, batch=8, longest=128)
    whole = train(recipe, ROWS, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2)
    assert not (tmp_path / "again" / "model.safetensors").exists()
    resumed = train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2)
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all((first[name] == second[name]).all() for name in first)


def test_what_cannot_be_trained_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="causal language model"):
        train(DetoxifierTrainingConfig(str(tmp_path)), ROWS, tmp_path / "out", device="cpu")
    base = str(decoder(tmp_path / "base"))
    with pytest.raises(UsageError, match="rows with a rewrite"):
        train(
            DetoxifierTrainingConfig(base), [RewrittenReply("1", "q", "same", "same")], tmp_path / "other", device="cpu"
        )
