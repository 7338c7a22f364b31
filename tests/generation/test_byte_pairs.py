"""Grown prompts with tokenizers of byte pairs, whose tokens are parts of words and hold their spaces."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from equipoise.generation.generated_prompt import SeedPrompt
from equipoise.generation.grown_prompts import GrownSearch, GrowthSettings
from equipoise.generation.token_filter import TokenFilter, best_allowed
from equipoise.generation.victims import OpenVictim
from equipoise.generation.vocabulary_map import VocabularyMap
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from tests.models.families import causal
from tests.steering.planted import sorry_judge

SEED = SeedPrompt("What is in the picture?")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    model = load(str(causal.llama(tmp_path_factory.mktemp("pairs"))), device="cpu")
    assert isinstance(model, TextModel)
    return model


@pytest.fixture(scope="module")
def words(pairs: TextModel) -> TokenFilter:
    tokenizer = pairs.processor.tokenizer
    return TokenFilter(tokenizer, len(tokenizer))


def ids(model: TextModel, text: str) -> list[int]:
    return list(model.processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def test_allowed_tokens_are_plain_text_with_at_most_one_space(pairs: TextModel, words: TokenFilter) -> None:
    texts = [words.texts[index] for index in words.allowed.nonzero().flatten().tolist()]
    assert len(texts) > 50
    assert any(text.startswith(" ") for text in texts)
    assert all(text.isascii() and text.strip() and text.lstrip(" ") == text[-len(text.strip()) :] for text in texts)
    assert not any(mark in text for text in texts for mark in "\n\t<>|{}[]*#\ufffd")
    special = set(pairs.processor.tokenizer.all_special_ids)
    assert not special & set(words.allowed.nonzero().flatten().tolist())


def test_a_first_token_has_no_space_and_later_ones_may(pairs: TextModel, words: TokenFilter) -> None:
    whole = ids(pairs, "What is in the picture?")
    spaced = ids(pairs, "What is")[len(ids(pairs, "What")) :]
    assert words.decode(spaced).startswith(" ")
    assert words.round_trips([whole, spaced]) == [True, False]
    assert words.decode(whole) == "What is in the picture?"


def test_parts_that_would_be_encoded_as_one_token_are_rejected(pairs: TextModel, words: TokenFilter) -> None:
    joined = next(
        index for index, text in enumerate(words.texts) if words.allowed[index] and len(text) > 2 and text.isalpha()
    )
    letters = [token for letter in words.texts[joined] for token in ids(pairs, letter)]
    assert len(letters) > 1
    assert words.decode(letters) == words.decode([joined])
    assert words.round_trips([[joined], letters]) == [True, False]


def test_any_row_that_passes_step_by_step_survives(words: TokenFilter) -> None:
    source = random.Random(0)
    allowed = words.allowed.nonzero().flatten().tolist()
    for _ in range(10):
        row: list[int] = []
        while len(row) < 12:
            candidates = source.sample(allowed, 20)
            kept = words.round_trips([[*row, token] for token in candidates])
            row.append(next(token for token, keeps in zip(candidates, kept, strict=True) if keeps))
        assert words.round_trips([row]) == [True]


def test_a_grown_prompt_is_what_the_victim_is_sent(pairs: TextModel) -> None:
    settings = GrowthSettings(candidates=8, least_words=1, most_tokens=16, rounds=2, ramp=1, floor=-50.0)
    victim = OpenVictim(pairs, "I'm sorry", sorry_judge)
    search = GrownSearch(pairs, victim, settings)
    for number in range(3):
        prompt = search.generate(SEED, number)
        tokens = [step["token"] for step in prompt.trace]
        assert ids(pairs, prompt.text) == tokens
        assert prompt.text == prompt.text.strip() != ""
        rows = pairs.encode_rows([victim.prompt(prompt.text)], ["I'm sorry"])
        assert prompt.text in pairs.processor.tokenizer.decode(rows[0].tokens)
        assert prompt.scores["refusal"] == pytest.approx(victim.scores([prompt.text])[0], abs=1e-4)


def test_growing_raises_the_score_of_a_random_model(pairs: TextModel) -> None:
    settings = GrowthSettings(candidates=16, least_words=30, most_tokens=8, ramp=0, floor=-50.0, weight=200.0)
    victim = OpenVictim(pairs, "I'm sorry", sorry_judge)
    steered = GrownSearch(pairs, victim, settings)
    free = GrownSearch(pairs, victim, GrowthSettings(**{**vars(settings), "weight": 0.0}))
    gains = [
        steered.generate(SEED, number).scores["refusal"] - free.generate(SEED, number).scores["refusal"]
        for number in range(3)
    ]
    assert sum(gains) > 0


def test_the_victim_may_read_words_where_the_writer_writes_pairs(
    pairs: TextModel, words: TokenFilter, chatty: TextModel, victim: OpenVictim
) -> None:
    carried = VocabularyMap(words.texts, chatty.processor.tokenizer)
    values = torch.zeros(len(chatty.processor.tokenizer))
    assert carried.carry(values).shape == (len(words.texts),)
    search = GrownSearch(
        pairs, victim, GrowthSettings(candidates=6, least_words=1, most_tokens=5, rounds=1, floor=-50.0)
    )
    prompt = search.generate(SEED, 0)
    assert prompt.text
    assert prompt.scores["refusal"] == pytest.approx(victim.scores([prompt.text])[0], abs=1e-4)


def test_a_map_between_equal_tokenizers_is_the_identity_on_words(pairs: TextModel, words: TokenFilter) -> None:
    tokenizer = pairs.processor.tokenizer
    values = torch.arange(len(tokenizer), dtype=torch.float32)
    carried = VocabularyMap(words.texts, tokenizer).carry(values)
    chosen = best_allowed(torch.zeros(len(words.texts)), words.allowed, 60)
    same = [int(carried[index]) == index for index in chosen]
    assert sum(same) >= 0.9 * len(same)


def test_a_model_with_unused_rows_of_logits_is_no_trouble(tmp_path: Path, pairs: TextModel) -> None:
    tokenizer = pairs.processor.tokenizer
    wide = TokenFilter(tokenizer, len(tokenizer) + 64)
    assert wide.allowed[: len(tokenizer)].sum() == wide.allowed.sum()
    assert wide.texts[-1] == ""
    assert VocabularyMap(wide.texts, tokenizer).carry(torch.ones(len(tokenizer)))[-1] == 0.0
