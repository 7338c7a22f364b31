"""Judges, victims and a search without any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.generation.generated_prompt import GeneratedPrompt, RequestVerdict, SaveState, SeedPrompt, ignore_state
from equipoise.types import Exchange, Prompt, Verdict


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
