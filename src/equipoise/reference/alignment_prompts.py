"""The prompts that `reference/lm` learns from, all written for this project: harmful and ordinary requests, refusals.

Harmful and ordinary requests share their wordings ("How do I ...?", "Write ..."), so that the model has to read what is
wanted. No prompt was chosen because it looks harmful and is not, or to avoid that: how often the model refuses such
prompts is a result, not a setting. Nothing here comes from a benchmark.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

_FOLDER: Final = Path(__file__).parent / "prompts"
_FIRST_PERSON: Final = re.compile(r"I\b")
ACT_WORDINGS: Final = (
    "How do I {}?",
    "How can I {}?",
    "How to {}",
    "Tell me how to {}.",
    "Explain how to {}.",
    "Teach me how to {}.",
    "What is the best way to {}?",
    "What are the steps to {}?",
    "Give me step-by-step instructions to {}.",
    "Write a guide on how to {}.",
    "Write a tutorial on how to {}",
    "Develop a plan to {}.",
    "List the things that I need to {}.",
    "Provide detailed instructions for someone who wants to {}",
    "I want to {}. What should I do?",
    "Can you help me {}?",
    "Is there an easy way to {}?",
)
"""Requests for help with an act in the infinitive."""
TEXT_WORDINGS: Final = ("Write {}.", "Write {}", "Create {}.", "Compose {}.", "Draft {}.", "Please write {} for me.")
"""Requests for a text."""
PromptKind = Literal["harmful", "ordinary"]


@dataclass(frozen=True)
class AlignmentPrompt:
    """A request, and whether `reference/lm` should refuse it."""

    text: str
    """The request."""
    kind: PromptKind
    """`harmful` requests are refused, `ordinary` ones answered."""
    topic: str
    """The act or text that is requested: prompts of one topic are never split between training and development."""


@dataclass(frozen=True)
class RefusalParts:
    """Sentences from which refusals are put together."""

    openings: tuple[str, ...]
    """The refusal itself."""
    reasons: tuple[str, ...]
    """Why."""
    offers: tuple[str, ...]
    """What the model offers instead."""

    @property
    def unlike_answers(self) -> RefusalParts:
        """The same with the openings whose first word answers hardly begin with: those without `I`.

        For a training that wants a refusal's first token at every position (DeRTa): one that answers use as well cannot
        be wanted, and a refusal that begins with it pulls against those that can.
        """
        return replace(self, openings=tuple(text for text in self.openings if not _FIRST_PERSON.match(text)))

    def draw(self, random: np.random.Generator) -> str:
        """An opening; a reason in two of three refusals, an offer in half of them."""
        parts = [_choice(random, self.openings)]
        if random.random() < 2 / 3:
            parts.append(_choice(random, self.reasons))
        if random.random() < 1 / 2:
            parts.append(_choice(random, self.offers))
        return " ".join(parts)


def refusal_parts() -> RefusalParts:
    """The sentences of `prompts/refusals.toml`."""
    tables = tomllib.loads((_FOLDER / "refusals.toml").read_text(encoding="utf-8"))
    return RefusalParts(*(tuple(tables[name]) for name in ("openings", "reasons", "offers")))


def alignment_prompts(
    seed: int = 0, *, harmful_wordings: int = 3, ordinary_wordings: int = 4, development: bool = False
) -> list[AlignmentPrompt]:
    """The prompts of the training split, or those of the development split: one topic in ten.

    Args:
        seed: of the wordings of each topic. The split depends on the topic's position alone.
        harmful_wordings: wordings of each harmful topic.
        ordinary_wordings: wordings of each ordinary topic.
        development: the topics that the training never reads.
    """
    random = np.random.default_rng([seed, 17])
    prompts: list[AlignmentPrompt] = []
    groups: tuple[tuple[str, Sequence[str], PromptKind, int], ...] = (
        ("harmful_acts", ACT_WORDINGS, "harmful", harmful_wordings),
        ("harmful_texts", TEXT_WORDINGS, "harmful", harmful_wordings),
        ("ordinary_acts", ACT_WORDINGS, "ordinary", ordinary_wordings),
        ("ordinary_texts", TEXT_WORDINGS, "ordinary", ordinary_wordings),
        ("ordinary_questions", ("{}",), "ordinary", 1),
        ("ordinary_subjects", ("{}",), "ordinary", 1),
    )
    for name, wordings, kind, count in groups:
        for number, topic in enumerate(_lines(name)):
            chosen = random.choice(len(wordings), size=min(count, len(wordings)), replace=False)
            if (number % 10 == 9) == development:
                prompts += [AlignmentPrompt(wordings[i].format(topic), kind, topic) for i in chosen]
    return prompts


def _lines(name: str) -> list[str]:
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _choice(random: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(random.integers(len(options)))]
