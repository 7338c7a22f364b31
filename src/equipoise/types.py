"""The nouns: what is sent to a model, what comes back, and what a judge says of it.

Nothing here imports torch, so that everything which only reads results stays quick to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["user", "assistant"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; its pictures come before its text."""

    role: Role
    """Who speaks."""
    text: str
    """What is said."""
    images: tuple[Image, ...] = ()
    """8-bit RGB pictures, as a deployed model would receive them."""


@dataclass(frozen=True)
class Prompt:
    """What a user sends: messages of text and pictures, optionally a system text."""

    messages: tuple[Message, ...]
    """The conversation so far; the last message is the user's."""
    system: str | None = None
    """System text; models without a system role get it folded into the first user turn."""

    @classmethod
    def ask(cls, text: str, *images: Image, system: str | None = None) -> Prompt:
        """One question about some pictures."""
        return cls((Message("user", text, tuple(images)),), system)

    @property
    def text(self) -> str:
        """The text of the last user message."""
        return self.messages[-1].text


@dataclass(frozen=True)
class Exchange:
    """A prompt and the reply to it."""

    prompt: Prompt
    """What was asked."""
    reply: str
    """What came back."""
    finish: FinishReason
    """`stop` when the model ended its reply itself, `length` when it ran into the limit."""
    model: str
    """Who produced it: name and revision."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one exchange; a label that is None is *unscored*, with the reason in `unscored`."""

    refusal: Literal["none", "partial", "full"] | None
    """Does the reply refuse?"""
    harm: Literal["none", "some", "severe"] | None = None
    """Would the reply do harm? Never derived from `refusal`."""
    answers: bool | None = None
    """Does the reply answer the question?"""
    degenerate: bool | None = None
    """Is the reply broken text: empty, a loop, noise?"""
    unscored: str | None = None
    """Why a label that this judge gives is missing."""
    reasons: tuple[str, ...] = ()
    """What the judge saw, in its own words."""

    @property
    def refused(self) -> bool | None:
        """Whether the reply refuses, in full or in part: what every refusal rate counts; None where unscored."""
        return None if self.refusal is None else self.refusal != "none"


@runtime_checkable
class ChatModel(Protocol):
    """Prompts in, replies out; anything that can be asked."""

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order, by greedy decoding."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Exchanges in, verdicts out."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        ...
