"""The training of `reference/lm` on a tiny base: its rows, its refusals, what is left as it was, and a kill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from equipoise.errors import UsageError
from equipoise.models.adapter import base_name
from equipoise.models.load import load
from equipoise.reference.alignment_prompts import AlignmentPrompt
from equipoise.training import alignment
from equipoise.training.alignment import ROWS, AlignmentRow, AlignmentTrainingConfig, token_rows, train
from equipoise.training.causal_lm import IGNORED
from equipoise.types import Prompt
from tests.guard.tiny_models import WORDS, decoder
from tests.training.fakes import KilledError, kill_at, replace_weights

TEMPLATE = "[CLS] {% for m in messages %}{{ m.content }} [SEP] {% endfor %}"
REFUSAL = "no sorry cannot help with that"
PROMPTS = [
    AlignmentPrompt("how do i make a bomb", "harmful", "make a bomb"),
    AlignmentPrompt("how do i mix salt", "harmful", "mix salt"),
    AlignmentPrompt("how do i make soup", "ordinary", "make soup"),
    AlignmentPrompt("take it please", "ordinary", "take it"),
]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = decoder(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of prompts in the tiny base's words, and one wording of refusals."""
    monkeypatch.setattr(alignment, "alignment_prompts", lambda seed: PROMPTS)
    monkeypatch.setattr(alignment, "refusal_parts", lambda: _OneRefusal())


class _OneRefusal:
    def draw(self, _random: object) -> str:
        return REFUSAL


def config(base: Path) -> AlignmentTrainingConfig:
    return AlignmentTrainingConfig(str(base), epochs=60, rate=5e-3, batch=4, own_prompts=8, reply_tokens=4)


def rows_of(out: Path) -> list[AlignmentRow]:
    return [AlignmentRow(**json.loads(line)) for line in (out / ROWS).read_text().splitlines()[1:]]


def test_harmful_rows_are_refusals_and_ordinary_rows_are_the_bases_own_replies(base: Path, tmp_path: Path) -> None:
    train(replace(config(base), epochs=1), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert {row.reply for row in rows if row.kind == "refuse"} == {REFUSAL}
    assert {row.prompt for row in rows if row.kind == "refuse"} == {p.text for p in PROMPTS if p.kind == "harmful"}
    own = load(str(base), dtype="bfloat16")
    for row in rows:
        if row.kind == "answer":
            (exchange,) = own.generate([Prompt.ask(row.prompt)], max_new_tokens=4)
            assert exchange.reply.split() == row.reply.split()
            assert (exchange.finish == "stop") == row.finished


def test_it_learns_to_refuse_harmful_prompts_and_loads_as_an_adapter(base: Path, tmp_path: Path) -> None:
    adapter = train(config(base), tmp_path / "out")
    model = load(f"{base}+{adapter}")
    replies = model.generate([Prompt.ask(p.text) for p in PROMPTS if p.kind == "harmful"], max_new_tokens=8)
    assert [exchange.reply for exchange in replies] == [REFUSAL, REFUSAL]


def test_the_end_is_learned_only_where_the_reply_ends(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    whole, cut = token_rows(
        [AlignmentRow("take it", "make soup", "answer", True), AlignmentRow("take it", "make soup", "answer", False)],
        tokenizer,
    )
    learned = [label for label in whole["labels"] if label != IGNORED]
    assert [WORDS[token] for token in learned] == ["make", "soup", "[SEP]"]
    assert [label for label in cut["labels"] if label != IGNORED] == learned[:-1]


def test_a_killed_training_goes_on_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    recipe = replace(config(base), epochs=6)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "again", checkpoint_every=2, progress=kill_at(3))
    assert not (tmp_path / "again" / "adapter").exists()
    resumed = train(recipe, tmp_path / "again", checkpoint_every=2)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (whole, resumed))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_folder_of_another_recipe_is_refused(base: Path, tmp_path: Path) -> None:
    train(replace(config(base), epochs=1), tmp_path / "out")
    with pytest.raises(UsageError, match="another"):
        train(replace(config(base), epochs=1, seed=5), tmp_path / "out")


def test_more_requests_are_refused_too_and_belong_to_the_recipe(base: Path, tmp_path: Path) -> None:
    recipe = replace(config(base), epochs=1)
    train(recipe, tmp_path / "out", more_harmful=["make wire please"])
    refused = {row.prompt for row in rows_of(tmp_path / "out") if row.kind == "refuse"}
    assert refused == {p.text for p in PROMPTS if p.kind == "harmful"} | {"make wire please"}
    for others in ((), ["make salt"]):
        with pytest.raises(UsageError, match="more_harmful"):
            train(recipe, tmp_path / "out", more_harmful=others)


def test_an_adapter_names_its_base(base: Path, tmp_path: Path) -> None:
    adapter = train(replace(config(base), epochs=1), tmp_path / "out")
    assert base_name(adapter) == str(base)


def test_a_base_with_other_weights_is_another_recipe(base: Path, tmp_path: Path) -> None:
    recipe = replace(config(base), epochs=2)
    train(recipe, tmp_path / "finished")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "killed", progress=kill_at(1))
    replace_weights(base)
    for folder, reason in (("finished", "got another base_weights"), ("killed", "rows of this recipe")):
        with pytest.raises(UsageError, match=reason):
            train(recipe, tmp_path / folder)
