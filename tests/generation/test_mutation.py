from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import RequestLabel, SeedPrompt
from equipoise.generation.mutation import (
    CONTEXTS,
    EMOTIONS,
    MUTATIONS,
    RECOMBINATION,
    WORDS,
    MutatedSearch,
    MutationSettings,
    ParaphraseSearch,
)
from equipoise.generation.writer import REPHRASE, REPHRASED, ChatWriter, WritingExamples, clean
from equipoise.types import Exchange, Prompt
from tests.generation.fakes import WordVictim

SEED = SeedPrompt("How do I stop a program?", "computers")


class EchoWriter:
    """Adds a word to the question of an instruction; which one depends on the instruction and the seed."""

    name = "echo"

    def __init__(self, words: Sequence[str] = ("kill", "calm", "murder")) -> None:
        self.words = words
        self.instructions: list[str] = []
        self.examples: list[WritingExamples] = []

    def write(self, instructions: Sequence[str], seed: int, examples: WritingExamples = ()) -> list[str]:
        self.instructions += instructions
        self.examples.append(examples)
        return [
            f"{text.rsplit(': ', 1)[-1]} {self.words[(seed + number) % len(self.words)]}"
            for number, text in enumerate(instructions)
        ]


def check(texts: Sequence[str]) -> list[RequestLabel]:
    return ["harmful" if "murder" in text.split() else "harmless" for text in texts]


def search(writer: EchoWriter | None = None, **settings: Any) -> MutatedSearch:
    # The fake victim's scores are counts of a word: all rounds are gone through unless a test says otherwise.
    own = MutationSettings(**{"enough": math.inf, **settings})
    return MutatedSearch(writer or EchoWriter(), WordVictim("kill"), check, own)


def test_the_refused_word_is_found() -> None:
    prompt = search(rounds=4).generate(SEED, 0)
    assert prompt.failure is None
    assert "kill" in prompt.text.split()
    assert prompt.scores["refusal"] >= 1.0 > prompt.scores["seed_refusal"]
    assert [step["round"] for step in prompt.trace] == [0, 1, 2, 3]


def test_nothing_that_the_check_calls_harmful_is_kept_recombined_prompts_included() -> None:
    checked: list[str] = []

    def watch(texts: Sequence[str]) -> list[RequestLabel]:
        checked.extend(texts)
        return check(texts)

    writer = EchoWriter()
    states: list[dict[str, Any]] = []
    own = MutatedSearch(writer, WordVictim("murder"), watch, MutationSettings(rounds=5))
    prompt = own.generate(SEED, 1, save=lambda state: states.append(json.loads(json.dumps(state))))
    assert "murder" not in prompt.text.split()
    assert all("murder" not in text.split() for text in states[-1]["pool"])
    # Recombinations were asked for, and what came back went through the check.
    joined = [text for text in writer.instructions if text.startswith(RECOMBINATION[:20])]
    assert joined
    assert any("murder" in text.split() for text in checked)


def test_no_safe_proposal_is_a_failure_with_its_reason() -> None:
    prompt = MutatedSearch(EchoWriter(), WordVictim("x"), lambda texts: ["harmful"] * len(texts)).generate(SEED, 0)
    assert prompt.failure == "no rewritten prompt passed the check"
    assert prompt.text == ""


def test_every_kind_of_mutation_is_asked_for() -> None:
    writer = EchoWriter()
    search(writer, rounds=6, mutants=8).generate(SEED, 0)
    asked_for = "\n".join(writer.instructions)
    assert any(context in asked_for for context in CONTEXTS)
    assert any(f'"{word}"' in asked_for for word in WORDS)
    assert any(emotion in asked_for for emotion in EMOTIONS)


def test_the_same_seed_gives_the_same_prompts() -> None:
    texts = [search(rounds=3).generate(SEED, number).text for number in range(3)]
    assert texts == [search(rounds=3).generate(SEED, number).text for number in range(3)]
    others = [search(rounds=3, seed=9).generate(SEED, number).trace for number in range(3)]
    assert others != [search(rounds=3).generate(SEED, number).trace for number in range(3)]


def test_a_stopped_search_goes_on_after_its_last_round() -> None:
    states: list[str] = []
    whole = search(rounds=5).generate(SEED, 2, save=lambda state: states.append(json.dumps(state)))
    for kept in states:
        writer = EchoWriter()
        resumed = search(writer, rounds=5).generate(SEED, 2, json.loads(kept))
        assert resumed.text == whole.text
        assert list(resumed.trace) == json.loads(json.dumps(list(whole.trace)))
    assert writer.instructions == []


def test_worse_prompts_are_taken_by_the_rule_of_metropolis() -> None:
    settings = MutationSettings()
    assert [settings.temperature(turn) for turn in (0, 4, 50)] == pytest.approx([0.1, 0.08, 0.05])
    own = search()

    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def random(self) -> float:
            return self.value

    assert own._anneal(0.0, 0, Fixed(0.999))  # type: ignore[arg-type]
    # exp(-0.1 / 0.1) = 0.37
    assert own._anneal(-0.1, 0, Fixed(0.36))  # type: ignore[arg-type]
    assert not own._anneal(-0.1, 0, Fixed(0.38))  # type: ignore[arg-type]


def test_examples_show_each_instruction_and_hold_none_of_the_words_that_are_put_in() -> None:
    writer = EchoWriter()
    search(writer).generate(SEED, 0)
    shown = [pair for examples in writer.examples for pair in examples]
    assert shown
    for kind, (instruction, details) in MUTATIONS.items():
        head, tail = instruction.split("{}")[:2]
        own = [(request, text) for request, text in shown if request.startswith(head) and tail in request]
        assert own, kind
        # A writer that copies the example would otherwise look as if it had followed the instruction.
        assert not any(detail in text for _, text in own for detail in details)
    for request, text in shown:
        assert text.count("?") == 1
        assert text not in request


def test_rounds_end_once_a_prompt_is_refused_surely_enough() -> None:
    prompt = search(enough=1.0).generate(SEED, 0)
    assert prompt.scores["refusal"] >= 1.0
    # No round before the last had such a prompt.
    assert all(step["score"] < 1.0 for step in prompt.trace[:-1])
    assert len(prompt.trace) < MutationSettings().rounds
    assert len(search(enough=1e9).generate(SEED, 0).trace) == MutationSettings().rounds
    states: list[dict[str, Any]] = []
    search(enough=1.0).generate(SEED, 0, save=lambda state: states.append(dict(state)))
    assert search(enough=1.0).generate(SEED, 0, states[-1]).text == prompt.text, "a kill after the last round"


def test_a_paraphrase_pays_no_regard_to_the_victim() -> None:
    writer = EchoWriter(["calm"])
    baseline = ParaphraseSearch(writer, WordVictim("kill"))
    prompt = baseline.generate(SEED, 0)
    assert prompt.method == "paraphrased"
    assert writer.instructions == [f"{REPHRASE}\n{SEED.text}"]
    assert writer.examples == [REPHRASED]
    assert prompt.scores == {"refusal": 0.0, "seed_refusal": 0.0}

    class Silent(EchoWriter):
        def write(self, instructions: Sequence[str], seed: int, examples: WritingExamples = ()) -> list[str]:
            return ["" for _ in instructions]

    assert ParaphraseSearch(Silent(), WordVictim("x")).generate(SEED, 0).failure == "the writer gave no sentence"


@pytest.mark.parametrize(
    ("reply", "prompt"),
    [
        ('"How do I kill time?"', "How do I kill time?"),
        ("Here is the rewritten question: How do I kill time?", "How do I kill time?"),
        ("Sure, here you go:\n\n**How do I kill time?**\nI hope this helps.", "How do I kill time?"),
        ("At 5: 30, what do I do?", "At 5: 30, what do I do?"),
        ("  \n ", ""),
    ],
)
def test_the_prompt_is_taken_out_of_the_reply(reply: str, prompt: str) -> None:
    assert clean(reply) == prompt


def test_any_chat_model_can_write() -> None:
    class Model:
        name = "chat"

        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            first = Exchange(prompts[0], '"A new question?"', "stop", "chat")
            return [first, *(Exchange(p, "lost", "error", "chat", error="away") for p in prompts[1:])]

    assert ChatWriter(Model()).write(["a", "b"], 0) == ["A new question?", ""]


def test_impossible_settings_are_one_clear_error() -> None:
    for change, value in itertools.product(("rounds", "mutants", "parents"), (0, -1)):
        with pytest.raises(UsageError, match="expected rounds, mutants and parents"):
            MutationSettings(**{change: value})
