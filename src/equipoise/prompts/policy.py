"""`PromptPolicy`: what a request becomes before a model gets it, as a value.

A policy changes prompts and nothing else, so it works with any model: one without a system role gets system texts
folded into the first user turn by its own format. What asks a second time, an interactive policy, is `Retry`: whether
it fires is decided outside, by a judge and a harm gate (`retries`).
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from equipoise.errors import UsageError
from equipoise.prompts.exemplars import ExemplarPool, ExemplarSelector, with_exemplars
from equipoise.types import Exchange, Message, Prompt

SLOT: Final = "{request}"
"""Where a template holds the user's words."""
REQUEST_GATE: Final = "requests"
"""Name of the harm gate that judges requests."""
SystemRole = Literal["system", "user"]
TemplateText = Literal["keep", "replace"]
"""What becomes of the system text that a chat template writes where a conversation has none."""
RetryForm = Literal["continued", "anew"]
"""Whether a retry goes on after the refusal, or asks again without it."""


class PromptPolicy(ABC):
    """What a request becomes."""

    @abstractmethod
    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """The prompt that the model gets.

        Args:
            prompt: what the user sent.
            several_pictures: whether the model takes prompts with more pictures than the user sent.
            template_text: what the model's chat template says by itself where a conversation has no system text.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """As JSON: two policies with the same description do the same."""

    @property
    def steps(self) -> tuple[PromptPolicy, ...]:
        """The parts of a composition, in order; the policy itself otherwise."""
        return (self,)

    @property
    def retry(self) -> Retry | None:
        """The part that asks again after a refusal; None where there is none."""
        return next((step for step in self.steps if isinstance(step, Retry)), None)

    @property
    def pools(self) -> tuple[ExemplarPool, ...]:
        """All pools that exemplars are drawn from."""
        return tuple(step.pool for step in self.steps if isinstance(step, FewShot))

    @property
    def revision(self) -> str:
        """The first 12 digits of the sha256 of the description."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class SystemText(PromptPolicy):
    """A text in front of the conversation."""

    text: str
    """What it says."""
    role: SystemRole = "system"
    """The system role, in front of a system text that the user has; or the beginning of the first user turn."""
    template: TemplateText = "keep"
    """Whether the text follows the system text that the chat template writes by itself, or stands in its place."""

    def __post_init__(self) -> None:
        """Check the text."""
        _require_text(self.text, "a text of the system step", "a sentence")
        _require_no_slot(self.text, "a system step", 'kind = "contextual"')

    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """The text, then what was there; behind the template's own text, which would otherwise be gone."""
        if self.role == "system":
            if self.template == "keep" and template_text and not prompt.system:
                return replace(prompt, system=joined(template_text, self.text))
            return replace(prompt, system=joined(self.text, prompt.system))
        return _with_user_text(prompt, first=True, change=lambda text: joined(self.text, text))

    def describe(self) -> dict[str, Any]:
        """Text, role and what becomes of the template's text."""
        return {"kind": "system", "text": self.text, "role": self.role, "template": self.template}


@dataclass(frozen=True)
class Contextual(PromptPolicy):
    """The request within a text that says in what setting to read it."""

    template: str
    """With `{request}` where the user's words go."""
    picture_template: str = ""
    """Likewise for requests with pictures; empty takes `template`."""

    def __post_init__(self) -> None:
        """Check the slots."""
        for name, template in (("template", self.template), ("picture_template", self.picture_template or SLOT)):
            if template.count(SLOT) != 1:
                raise UsageError(
                    f"expected {SLOT} once in the {name} of a contextual step, got it {template.count(SLOT)} times; "
                    f"try 'Someone asks: {SLOT}'"
                )

    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """The last request, framed."""
        pictured = bool(prompt.messages[-1].images)
        template = self.picture_template if pictured and self.picture_template else self.template
        return _with_user_text(prompt, first=False, change=lambda text: fill(template, text))

    def describe(self) -> dict[str, Any]:
        """Both templates."""
        return {"kind": "contextual", "template": self.template, "picture_template": self.picture_template}


@dataclass(frozen=True)
class FewShot(PromptPolicy):
    """Exemplars in front of the conversation."""

    k: int
    """How many."""
    pool: ExemplarPool
    """Where they come from."""
    selector: ExemplarSelector = "similar"
    """How they are chosen."""
    refusals: int = 1
    """How many of them decline."""
    seed: int = 0
    """Of the selector `random`."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.k <= len(self.pool.exemplars) or not 0 <= self.refusals <= self.k:
            raise UsageError(
                f"expected k between 1 and {len(self.pool.exemplars)} exemplars of {self.pool.name} and refusals of at "
                f"most k, got {self.k} and {self.refusals}; try k = {min(4, len(self.pool.exemplars))}, refusals = 1"
            )

    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """Exemplars, then the conversation."""
        chosen = self.pool.select(
            self.k,
            prompt.text,
            self.selector,
            refusals=self.refusals,
            pictures=several_pictures and bool(prompt.pictures),
            seed=self.seed,
        )
        return with_exemplars(prompt, chosen)

    def describe(self) -> dict[str, Any]:
        """Pool and selector."""
        pool = {"pool": self.pool.name, "sha256": self.pool.sha256}
        settings = {"k": self.k, "selector": self.selector, "refusals": self.refusals, "seed": self.seed}
        return {"kind": "few_shot", **pool, **settings}


@dataclass(frozen=True)
class Retry(PromptPolicy):
    """A second request after a refusal, where a judge says refused and a harm gate says the request is benign."""

    follow_up: str
    """The user's next turn; anew, the request in a frame, with `{request}` where the user's words go."""
    picture_follow_up: str = ""
    """Likewise after a request with pictures; empty takes `follow_up`."""
    max_retries: int = 1
    """Turns at most."""
    gate: str = REQUEST_GATE
    """`requests`, the judges of requests; or a detector of the guard, which reads the request as if it were a reply."""
    threshold: float = 0.5
    """Probability of harm from which on a detector does not call a request benign; `requests` has labels instead."""
    read_pictures: bool = False
    """Whether the gate reads the text in pictures (OCR); where it does not, no request with a picture is benign."""
    conversation: RetryForm = "continued"
    """`continued`: the refusal stays in the conversation; `anew`: it is asked again as if for the first time."""

    def __post_init__(self) -> None:
        """Check the follow-up."""
        _require_text(self.follow_up, "a follow_up of the interactive step", "a sentence")
        anew = self.conversation == "anew"
        if not anew:
            texts = self.follow_up + self.picture_follow_up
            _require_no_slot(texts, "an interactive step that goes on after the refusal", 'conversation = "anew"')
        slots = [text.count(SLOT) for text in (self.follow_up, self.picture_follow_up or self.follow_up)]
        if anew and (slots != [1, 1] or self.max_retries != 1):
            # The same request, asked anew, would get the same reply a second time.
            raise UsageError(
                f"expected {SLOT} once in what an interactive step asks anew, and one retry, got it "
                f"{' and '.join(map(str, slots))} times and {self.max_retries} retries; try 'Please explain: {SLOT}'"
            )
        if not 1 <= self.max_retries <= 5 or not 0 < self.threshold <= 1 or not self.gate:
            raise UsageError(
                f"expected 1 to 5 max_retries, a gate and a threshold in (0, 1], got {self.max_retries}, {self.gate!r} "
                f"and {self.threshold:g}; try max_retries = 1"
            )

    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """The prompt as it is: the first request is not changed."""
        return prompt

    def after(self, exchange: Exchange) -> Prompt:
        """The conversation after a refusal, with the follow-up as its last turn; or the request in its frame, anew.

        The same text is said at each retry: what changes is the conversation in front of it.
        """
        pictured = bool(exchange.prompt.pictures)
        text = self.picture_follow_up if pictured and self.picture_follow_up else self.follow_up
        if self.conversation == "anew":
            again = _with_user_text(exchange.prompt, first=False, change=lambda request: fill(text, request))
            return replace(again, prefill="")
        # A prefill belongs to the first reply: kept, an agreement that the model never gave would begin the second too.
        reply = " ".join(part for part in (exchange.prompt.prefill, exchange.reply) if part)
        turns = (Message("assistant", reply or "..."), Message("user", text))
        return replace(exchange.prompt, messages=(*exchange.prompt.messages, *turns), prefill="")

    def describe(self) -> dict[str, Any]:
        """All settings."""
        return {
            "kind": "interactive",
            "follow_up": self.follow_up,
            "picture_follow_up": self.picture_follow_up,
            "max_retries": self.max_retries,
            "gate": self.gate,
            "threshold": self.threshold,
            "read_pictures": self.read_pictures,
            "conversation": self.conversation,
        }


@dataclass(frozen=True)
class ComposedPolicy(PromptPolicy):
    """Several policies, one after the other."""

    parts: tuple[PromptPolicy, ...]
    """In the order in which they change the prompt."""

    def __post_init__(self) -> None:
        """Check the parts."""
        if not self.parts or sum(isinstance(step, Retry) for step in self.steps) > 1:
            raise UsageError(
                f"expected one or more steps with at most one interactive, got {len(self.steps)}; try one [[steps]]"
            )

    @property
    def steps(self) -> tuple[PromptPolicy, ...]:
        """All parts, those of compositions inside included."""
        return tuple(_flattened(self.parts))

    def apply(self, prompt: Prompt, *, several_pictures: bool = True, template_text: str = "") -> Prompt:
        """Each part in turn."""
        for part in self.parts:
            prompt = part.apply(prompt, several_pictures=several_pictures, template_text=template_text)
        return prompt

    def describe(self) -> dict[str, Any]:
        """The parts."""
        return {"kind": "compose", "steps": [step.describe() for step in self.steps]}


def system(text: str, role: SystemRole = "system", template: TemplateText = "keep") -> SystemText:
    """A text in front of the conversation."""
    return SystemText(text, role, template)


def contextual(template: str, picture_template: str = "") -> Contextual:
    """The request within a text; `{request}` is where it goes."""
    return Contextual(template, picture_template)


def few_shot(k: int, pool: ExemplarPool, selector: ExemplarSelector = "similar", **settings: int) -> FewShot:
    """`k` exemplars of a pool in front of the conversation."""
    return FewShot(k, pool, selector, **settings)


def interactive(max_retries: int, follow_up: str, **settings: Any) -> Retry:
    """A follow-up after a refusal of a benign request."""
    return Retry(follow_up, max_retries=max_retries, **settings)


def compose(*parts: PromptPolicy) -> ComposedPolicy:
    """Several policies as one."""
    return ComposedPolicy(parts)


def fill(template: str, request: str) -> str:
    """The template with the request in its slot; braces in either stay as they are."""
    # Not `str.format`: requests and templates hold braces of their own (JSON, code), which it would take for fields.
    before, _, after = template.partition(SLOT)
    return before + request + after


def joined(first: str, second: str | None) -> str:
    """Two texts with an empty line between them; the first alone where there is no second."""
    return f"{first}\n\n{second}" if second else first


def _with_user_text(prompt: Prompt, *, first: bool, change: Any) -> Prompt:
    messages = list(prompt.messages)
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    if not users:
        raise UsageError("expected a prompt with a user message, got none; try Prompt.ask(question)")
    index = users[0 if first else -1]
    messages[index] = replace(messages[index], text=change(messages[index].text))
    return replace(prompt, messages=tuple(messages))


def _flattened(parts: Sequence[PromptPolicy]) -> Iterator[PromptPolicy]:
    for part in parts:
        if isinstance(part, ComposedPolicy):
            yield from _flattened(part.parts)
        else:
            yield part


def _require_no_slot(text: str, what: str, hint: str) -> None:
    """Refuse a slot that nothing fills: the model would read the braces."""
    if SLOT in text:
        raise UsageError(f"expected no {SLOT} in {what}, got a text with it, which nothing would fill; try {hint}")


def _require_text(text: str, what: str, hint: str) -> None:
    if not text.strip():
        raise UsageError(f"expected {what}, got an empty text; try {hint}")
