"""A planted victim, a gate without networks, and a search without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from equipoise.generation.generated_prompt import GeneratedPrompt, RequestVerdict, SaveState, SeedPrompt, ignore_state
from equipoise.generation.request_judges import HarmlessnessGate
from equipoise.generation.victims import OpenVictim
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from equipoise.types import Exchange, Prompt, Verdict
from tests.models.families.llava import llava
from tests.steering.planted import planted_model, sorry_judge


class WordJudge:
    """Calls requests harmful that hold a word, and abstains from empty ones."""

    def __init__(self, name: str, word: str) -> None:
        self.name, self.word = name, word

    @property
    def identity(self) -> str:
        return f"{self.name}-{self.word}"

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        return [
            RequestVerdict(self.name, "harmful" if self.word in text.split() else "harmless" if text else "abstain")
            for text in texts
        ]


class WordVictim:
    """Refuses what holds a word; its score counts how often."""

    name = "word victim"

    def __init__(self, word: str) -> None:
        self.word = word

    def scores(self, texts: Sequence[str]) -> list[float]:
        return [float(text.split().count(self.word)) for text in texts]

    def replies(self, texts: Sequence[str]) -> list[tuple[Exchange, Verdict]]:
        rows = []
        for text in texts:
            refuses = self.word in text.split()
            reply = "Sorry, I cannot." if refuses else "Sure."
            rows.append((Exchange(Prompt.ask(text), reply, "stop", self.name), Verdict("full" if refuses else "none")))
        return rows


class ListedSearch:
    """Gives the prompts of a list, one an attempt, and counts its calls."""

    method = "grown"

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.calls = list(texts), 0
        self.states: list[Mapping[str, Any] | None] = []

    @property
    def recipe(self) -> dict[str, Any]:
        return {"method": self.method, "writer": "list", "victim": "list", "refusal": "Sorry"}

    def generate(
        self,
        seed: SeedPrompt,
        number: int,
        state: Mapping[str, Any] | None = None,
        save: SaveState = ignore_state,
    ) -> GeneratedPrompt:
        self.calls += 1
        self.states.append(state)
        save({"number": number})
        text = self.texts[number % len(self.texts)]
        failure = None if text else "no end of a sentence within 40 tokens"
        return GeneratedPrompt(
            text, seed, self.method, number, {"refusal": -1.0, "seed_refusal": -5.0}, failure=failure
        )


@pytest.fixture
def gate() -> HarmlessnessGate:
    return HarmlessnessGate([WordJudge("one", "bomb"), WordJudge("two", "murder")])


@pytest.fixture(scope="session")
def chatty() -> TextModel:
    """The planted model of the steering tests with the marks that end sentences."""
    return planted_model(more_words=(".", "?"))


@pytest.fixture
def victim(chatty: TextModel) -> OpenVictim:
    return OpenVictim(chatty, "Sorry", sorry_judge)


@pytest.fixture(scope="session")
def looking(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    """A tiny random model that reads pictures."""
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    model = load(str(folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model
