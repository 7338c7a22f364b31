from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import RequestLabel, SeedPrompt
from equipoise.generation.grown_prompts import GrownSearch, GrowthSettings
from equipoise.generation.victims import OpenVictim
from equipoise.models.text_model import TextModel
from tests.steering.planted import planted_model, sorry_judge

UNUSED = tuple(f"w{number}" for number in range(8, 40))
"""Banned, so that the ends of sentences are drawn soon enough."""
SETTINGS = GrowthSettings(
    end_floor=-7.0,
    floor=-7.0,
    candidates=12,
    ramp=2,
    most_tokens=40,
    least_words=4,
    banned=("sorry", "sure", *UNUSED),
    weight=8.0,
)
SEED = SeedPrompt("w1 w2 w3", "everyday")


def grown(search: GrownSearch, numbers: range) -> list[str]:
    return [search.generate(SEED, number).text for number in numbers]


def test_the_planted_word_is_found(chatty: TextModel, victim: OpenVictim) -> None:
    search = GrownSearch(chatty, victim, SETTINGS)
    prompts = [search.generate(SEED, number) for number in range(4)]
    assert all("attack" in prompt.text.split() or "shoot" in prompt.text.split() for prompt in prompts)
    for prompt in prompts:
        assert prompt.scores["refusal"] > prompt.scores["seed_refusal"] + 0.5


def test_the_victims_weight_is_what_finds_it(chatty: TextModel, victim: OpenVictim) -> None:
    free = GrowthSettings(**{**vars(SETTINGS), "weight": 0.0})
    # Among the first words: later the refusal is certain, nothing can raise it any more, and words are drawn freely.
    hits = [
        sum(
            bool({"attack", "shoot"} & set(text.split()[:4]))
            for text in grown(GrownSearch(chatty, victim, own), range(6))
        )
        for own in (SETTINGS, free)
    ]
    assert hits[0] == 6
    assert hits[1] <= 5


def test_every_finished_prompt_ends_a_sentence_and_survives_encoding(chatty: TextModel, victim: OpenVictim) -> None:
    search = GrownSearch(chatty, victim, SETTINGS)
    tokenizer = chatty.processor.tokenizer
    finished = [prompt for number in range(6) if (prompt := search.generate(SEED, number)).failure is None]
    assert finished
    for prompt in finished:
        tokens = tokenizer(prompt.text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens) == prompt.text == prompt.text.strip()
        assert tokens == [step["token"] for step in prompt.trace]
        assert prompt.text[-1] in ".?"
        assert len(prompt.text.split()) > SETTINGS.least_words


def test_the_same_seed_gives_the_same_prompts_and_another_others(chatty: TextModel, victim: OpenVictim) -> None:
    first = grown(GrownSearch(chatty, victim, SETTINGS), range(3))
    again = grown(GrownSearch(chatty, victim, SETTINGS), range(3))
    other = grown(GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "seed": 1})), range(3))
    assert first == again
    assert first != other
    assert len(set(first)) > 1


def test_a_stopped_search_goes_on_where_it_was(chatty: TextModel, victim: OpenVictim) -> None:
    search = GrownSearch(chatty, victim, SETTINGS)
    states: list[str] = []
    whole = search.generate(SEED, 5, save=lambda state: states.append(json.dumps(state)))
    assert len(states) == len(whole.trace)
    for kept in (states[0], states[len(states) // 2]):
        later: list[Any] = []
        resumed = search.generate(SEED, 5, json.loads(kept), later.append)
        assert resumed.text == whole.text
        assert resumed.scores == pytest.approx(whole.scores, abs=1e-4)
        assert len(later) == len(whole.trace) - len(json.loads(kept)["tokens"])


def test_banned_words_never_appear(chatty: TextModel, victim: OpenVictim) -> None:
    settings = GrowthSettings(**{**vars(SETTINGS), "banned": (*SETTINGS.banned, "attack")})
    search = GrownSearch(chatty, victim, settings)
    texts = grown(search, range(4))
    assert all("attack" not in text.split() and "Sure" not in text.split() for text in texts)
    # The second word of the planted refusal is found instead.
    assert any("shoot" in text.split() for text in texts)


def test_writer_and_victim_may_have_other_vocabularies(victim: OpenVictim) -> None:
    writer = planted_model(seed=3, more_words=("zeta", ".", "?"))
    assert writer.processor.tokenizer.convert_tokens_to_ids(
        "."
    ) != victim.model.processor.tokenizer.convert_tokens_to_ids(  # type: ignore[attr-defined]
        "."
    )
    texts = grown(GrownSearch(writer, victim, SETTINGS), range(3))
    assert all("attack" in text.split() or "shoot" in text.split() for text in texts)


def test_a_prompt_without_an_end_is_given_up(chatty: TextModel, victim: OpenVictim) -> None:
    settings = GrowthSettings(**{**vars(SETTINGS), "least_words": 30, "most_tokens": 5})
    prompt = GrownSearch(chatty, victim, settings).generate(SEED, 0)
    assert prompt.failure == "no end of a sentence within 5 tokens"
    assert len(prompt.trace) == 5


def test_a_sentence_ends_once_its_end_would_be_refused(chatty: TextModel, victim: OpenVictim) -> None:
    eager = GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "enough": -0.3}))
    patient = GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "enough": 0.1}))
    for number in range(4):
        prompt = eager.generate(SEED, number)
        assert prompt.failure is None
        # Nothing is written after the first end that would be refused.
        words = prompt.text[:-1].split()
        ends = {
            count: max(victim.scores([f"{' '.join(words[:count])} {mark}" for mark in ".?"]))
            for count in range(SETTINGS.least_words, len(words))
        }
        assert all(score < -0.3 for score in ends.values())
        # A log-probability is never above 0: no end is ever enough, and ends are drawn as other tokens are.
        assert len(patient.generate(SEED, number).trace) >= len(prompt.trace)


def test_a_long_sentence_ends_as_soon_as_it_may(chatty: TextModel, victim: OpenVictim) -> None:
    settings = GrowthSettings(**{**vars(SETTINGS), "most_words": 7, "enough": 0.1, "floor": -30.0, "end_floor": -30.0})
    for number in range(4):
        prompt = GrownSearch(chatty, victim, settings).generate(SEED, number)
        assert prompt.failure is None
        assert len(prompt.trace) <= 8


def test_a_word_that_makes_the_text_harmful_is_drawn_again(chatty: TextModel, victim: OpenVictim) -> None:
    texts: list[str] = []

    def check(requests: Sequence[str]) -> list[RequestLabel]:
        texts.extend(requests)
        return ["harmful" if "attack" in text.split() else "harmless" for text in requests]

    # A threshold above the likeliest word: every word is checked.
    checked = GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "usual": 1.0}), check)
    prompts = [checked.generate(SEED, number) for number in range(4)]
    # The planted word is what the victim refuses most, and the other one that it refuses is taken.
    assert not any("attack" in prompt.text.split() for prompt in prompts)
    assert any("shoot" in prompt.text.split() for prompt in prompts)
    assert sum(step["redraws"] for prompt in prompts for step in prompt.trace) > 0
    # It reads the text so far with the drawn token, not the token alone.
    assert max(len(text.split()) for text in texts) >= SETTINGS.least_words
    assert checked.recipe != GrownSearch(chatty, victim, SETTINGS).recipe


def test_what_the_writer_would_say_anyway_is_not_checked(chatty: TextModel, victim: OpenVictim) -> None:
    texts: list[str] = []

    def check(requests: Sequence[str]) -> list[RequestLabel]:
        texts.extend(requests)
        return ["harmful"] * len(requests)

    unchecked = GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "usual": -100.0}), check)
    assert sum(step["redraws"] for step in unchecked.generate(SEED, 0).trace) == 0
    assert not texts
    GrownSearch(chatty, victim, GrowthSettings(**{**vars(SETTINGS), "usual": 1.0}), check).generate(SEED, 0)
    assert texts


def test_the_end_of_a_sentence_has_a_floor_of_its_own(chatty: TextModel, victim: OpenVictim) -> None:
    # Above every likelihood: no end is ever likely enough.
    settings = GrowthSettings(**{**vars(SETTINGS), "end_floor": 100.0, "most_tokens": 12})
    prompt = GrownSearch(chatty, victim, settings).generate(SEED, 0)
    assert prompt.failure == "no end of a sentence within 12 tokens"


def test_a_check_that_calls_everything_harmful_changes_nothing(chatty: TextModel, victim: OpenVictim) -> None:
    own = GrowthSettings(**{**vars(SETTINGS), "usual": 1.0})
    strict = GrownSearch(chatty, victim, own, lambda texts: ["harmful"] * len(texts))
    assert grown(strict, range(2)) == grown(GrownSearch(chatty, victim, SETTINGS), range(2))


def test_the_weight_grows_over_the_ramp() -> None:
    settings = GrowthSettings(weight=10.0, ramp=5)
    assert [settings.weight_at(position) for position in (0, 1, 5, 9)] == [0.0, 2.0, 10.0, 10.0]
    assert GrowthSettings(weight=10.0, ramp=0).weight_at(0) == 10.0


def test_the_trace_shows_convergence(chatty: TextModel, victim: OpenVictim) -> None:
    prompt = GrownSearch(chatty, victim, SETTINGS).generate(SEED, 1)
    assert prompt.trace[0]["weight"] == 0.0
    assert prompt.trace[0]["rounds"] == 1
    assert all(step["rounds"] <= SETTINGS.rounds for step in prompt.trace)
    # The marks that end a sentence are scored beside the candidates.
    assert all(1 <= step["scored"] <= (SETTINGS.candidates + 1) * SETTINGS.rounds + 2 for step in prompt.trace)


def test_the_models_are_left_as_they_were(chatty: TextModel, victim: OpenVictim) -> None:
    before = {name: value.clone() for name, value in chatty.model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in chatty.model.parameters()]
    GrownSearch(chatty, victim, SETTINGS).generate(SEED, 0)
    assert all(torch.equal(value, before[name]) for name, value in chatty.model.state_dict().items())
    assert [parameter.requires_grad for parameter in chatty.model.parameters()] == flags
    assert all(parameter.grad is None for parameter in chatty.model.parameters())


@pytest.mark.parametrize(
    "change", [{"candidates": 0}, {"redraws": 0}, {"temperature": 0.0}, {"rounds": 0}, {"ramp": -1}]
)
def test_impossible_settings_are_one_clear_error(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected candidates.*got.*try"):
        GrowthSettings(**change)


def test_an_empty_refusal_is_an_error(chatty: TextModel) -> None:
    with pytest.raises(UsageError, match="beginning of a refusal"):
        OpenVictim(chatty, "  ", sorry_judge)
