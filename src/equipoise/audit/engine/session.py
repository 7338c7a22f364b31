"""What one call of `ask` shares with the solver and the scorers that inspect runs for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from equipoise.types import ChatModel, Exchange, Verdict


@runtime_checkable
class IdentifiedJudge(Protocol):
    """A judge that says which one it is."""

    @property
    def identity(self) -> str:
        """Changes whenever its verdicts could."""
        ...

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        ...


@dataclass(frozen=True)
class Target:
    """Who is asked: a model in this process, or one that inspect reaches."""

    name: str
    """What the user called it."""
    revision: str
    """Which weights exactly; empty where that cannot be known."""
    model: ChatModel | None = None
    """The model in this process; None means `spec` is asked."""
    spec: str | None = None
    """inspect's name of a model, such as `openai/gpt-4o`, or `http://host:port/v1#NAME`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for inspect's provider (`-M` on its command line), such as `{"stream": True}`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key for an `http://` target; a dummy is sent where it is not set."""

    @property
    def who(self) -> str:
        """Name and revision, as replies record them."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class Progress:
    """How far a call of `ask` is."""

    done: int
    """Samples that have their reply and verdict, or failed for good; those that were reused count."""
    total: int
    """Samples that can be asked."""
    failed: int
    """Samples among `done` without a reply."""
    seconds: float
    """Since the call began."""


@dataclass(frozen=True)
class Outcome:
    """What a call of `ask` did."""

    asked: int
    """Prompts that were sent and got a reply now."""
    reused: int
    """Prompts whose reply was in the store."""
    failed: int
    """Prompts that were sent and got none, for a reason in the store."""
    unasked: int
    """Prompts left alone because of `fatal`."""
    judged: int
    """Verdicts written now."""
    fatal: str | None
    """Why asking stopped early, in one line; None when it did not."""


ProgressSink = Callable[[Progress], None]
