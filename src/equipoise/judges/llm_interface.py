"""The interface of LLM judges to their backends: requests, completions, and the probabilities of the offered labels.

The same for models behind HTTP and for local ones, so that rubrics and guards know of neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from equipoise.types import Message

MASS: Final = 0.5
"""How much probability the offered labels must hold together; below it the model was about to say something else."""

TOP: Final = 20
"""Likeliest tokens requested at each position; the most that OpenAI-compatible servers return."""


@dataclass(frozen=True)
class CompletionRequest:
    """What the judging model is asked."""

    messages: tuple[Message, ...]
    """The conversation; it ends with the user's message, or with the reply that a guard shall judge."""
    max_tokens: int
    """How much it may write."""
    options: tuple[str, ...] = ()
    """Labels of which one is to be chosen at once: a local model then only compares them and writes nothing."""
    raw: str | None = None
    """The whole prompt with its control tokens, for a model without a chat template; takes the place of `messages`."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for the model's chat template."""
    system: str | None = None
    """System text."""


@dataclass(frozen=True)
class CompletionToken:
    """One token that was written."""

    text: str
    """Its text."""
    top: Mapping[str, float]
    """Natural log-probabilities of the likeliest tokens at this place, by their text."""


@dataclass(frozen=True)
class Completion:
    """What came back."""

    text: str = ""
    """What was written."""
    tokens: tuple[CompletionToken, ...] = ()
    """Its tokens, where the model tells; together they are `text`."""
    failure: str | None = None
    """Why nothing came back, in words that follow "the judge ..."."""
    cut: bool = False
    """Whether it ran into `max_tokens`."""


class Backend(Protocol):
    """A model that can be asked to judge."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def recipe(self) -> Mapping[str, Any]:
        """All that decides what it writes, without secrets; JSON."""
        ...

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """One completion for each request, in order; what failed says so and raises nothing."""
        ...


@dataclass(frozen=True)
class LabelChoice:
    """A label found in a completion."""

    label: str
    """Which of the offered ones."""
    probabilities: Mapping[str, float] | None
    """Of every offered label, summing to 1; None where the model does not tell."""
    mass: float | None
    """What the offered labels held together before that; None where the model does not tell."""

    @property
    def likely(self) -> bool:
        """Whether the offered labels were what the model was about to say, as far as it tells."""
        return self.mass is None or self.mass >= MASS


def choice_at(completion: Completion, start: int, label: str, offered: Sequence[str]) -> LabelChoice:
    """The choice of `label`, which stands in the completion's text from character `start` on.

    A token counts for the one label that begins with it (` Un` for `Unsafe`), whatever its case and leading blanks;
    a token with which several labels begin counts for none.
    """
    # The token that covers the character `start`: tokens and characters are aligned by adding up their lengths.
    end = 0
    for token in completion.tokens:
        end += len(token.text)
        if end > start:
            return _renormalised(token.top, label, offered)
    return LabelChoice(label, None, None)


def _renormalised(top: Mapping[str, float], label: str, offered: Sequence[str]) -> LabelChoice:
    # p(label | one of the labels) = p(label) / sum of p over the labels: what the model holds for other words says
    # nothing about the choice between them, and is reported as the missing mass instead.
    held = dict.fromkeys(offered, 0.0)
    for text, log_probability in top.items():
        piece = re.sub(r"^[\s\u0120\u2581]+", "", text).rstrip().lower()
        owners = [option for option in offered if piece and option.lower().startswith(piece)]
        if len(owners) == 1:
            held[owners[0]] += math.exp(min(log_probability, 0.0))
    mass = sum(held.values())
    if mass <= 0:
        return LabelChoice(label, None, 0.0 if top else None)
    return LabelChoice(label, {option: value / mass for option, value in held.items()}, min(mass, 1.0))


def drop_lone_surrogates(text: str) -> str:
    """A text without half surrogate pairs, which no encoder and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
