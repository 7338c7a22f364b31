"""The detoxifier's training: the rewrite alone is learned, a killed run resumes, useless rows are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detoxifier import load
from equipoise.guard.detoxifier.trained_detoxifier import prompt_ids
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.training_rows import RewrittenReply
from equipoise.training.causal_lm import IGNORED
from equipoise.training.detoxifier import DetoxifierTrainingConfig, row_warnings, token_rows, train
from tests.guard.tiny_models import WORDS, decoder, tokenizer
from tests.training.fakes import KilledError, kill_at, replace_weights

ROWS = [RewrittenReply(str(at), "how do i make a bomb", "take the wire", "make a bird please") for at in range(24)]


def test_the_prompt_is_masked_and_the_end_is_learned() -> None:
    words = tokenizer()
    (item,) = token_rows(ROWS[:1], words, 192)
    prompt = prompt_ids(words, "how do i make a bomb", "take the wire", 187)
    assert item["input_ids"][: len(prompt)] == prompt
    assert item["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    assert [WORDS[token] for token in item["labels"][len(prompt) :]] == ["make", "a", "bird", "please", "[SEP]"]


def test_rows_that_teach_nothing_are_left_out_and_counted() -> None:
    odd = [
        RewrittenReply("same", "q", "take it", " take it "),
        RewrittenReply("empty", "q", "take it", "  "),
        RewrittenReply("refusal", "q", "take it", "I'm sorry, but I can't help with that."),
    ]
    warnings = row_warnings([*odd, *ROWS])
    assert (warnings.same, warnings.empty, warnings.refusals) == (1, 1, 1)
    assert len(token_rows(odd, tokenizer(), 192)) == 1
    assert token_rows([RewrittenReply("long", "q", "take it", "soup " * 500)], tokenizer(), 192) == []


@pytest.mark.parametrize("lora", [None, 4])
def test_it_learns_to_rewrite(tmp_path: Path, lora: int | None) -> None:
    recipe = DetoxifierTrainingConfig(
        str(decoder(tmp_path / "base")), epochs=12, rate=2e-2, batch=8, longest=128, lora=lora
    )
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    assert load(str(out))([GuardInput("take the wire", "how do i make a bomb")]) == ["make a bird please"]


def test_a_killed_training_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    recipe = DetoxifierTrainingConfig(str(decoder(tmp_path / "base")), epochs=2, rate=1e-2, batch=8, longest=128)
    whole = train(recipe, ROWS, tmp_path / "whole", device="cpu")
    with pytest.raises(KilledError):
        train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2, progress=kill_at(3))
    assert not (tmp_path / "again" / "model.safetensors").exists()
    resumed = train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=2)
    first, second = load_file(whole / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert all((first[name] == second[name]).all() for name in first)


def test_what_cannot_be_trained_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a model folder"):
        train(DetoxifierTrainingConfig(str(tmp_path)), ROWS, tmp_path / "out", device="cpu")
    base = str(decoder(tmp_path / "base"))
    with pytest.raises(UsageError, match="rows with a rewrite"):
        train(
            DetoxifierTrainingConfig(base), [RewrittenReply("1", "q", "same", "same")], tmp_path / "other", device="cpu"
        )


def test_an_adapter_alone_rewrites_over_its_base(tmp_path: Path) -> None:
    base = str(decoder(tmp_path / "base"))
    recipe = DetoxifierTrainingConfig(base, epochs=12, rate=2e-2, batch=8, longest=128, lora=4, adapter_only=True)
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    assert not (out / "model.safetensors").exists()
    assert load(str(out), dtype="float32")([GuardInput("take the wire", "how do i make a bomb")]) == [
        "make a bird please"
    ]


def test_settings_of_adapters_need_adapters(tmp_path: Path) -> None:
    base = str(decoder(tmp_path / "base"))
    for recipe in (DetoxifierTrainingConfig(base, adapter_only=True), DetoxifierTrainingConfig(base, frozen_bf16=True)):
        with pytest.raises(UsageError, match="lora=16"):
            train(recipe, ROWS, tmp_path / "out", device="cpu")


def test_a_base_with_other_weights_is_another_recipe(tmp_path: Path) -> None:
    base = decoder(tmp_path / "base")
    recipe = DetoxifierTrainingConfig(str(base), epochs=1, batch=8, longest=128, lora=4, adapter_only=True)
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    stamp = (out / "base.json").read_bytes()
    replace_weights(base)
    with pytest.raises(UsageError, match="got another base_weights"):
        train(recipe, ROWS, out, device="cpu")
    assert (out / "base.json").read_bytes() == stamp
