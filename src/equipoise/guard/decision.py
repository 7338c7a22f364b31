"""Results and protocols of the guard: `HarmScore` of a `Detector`, `GuardDecision`, and `Detoxifier`."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, runtime_checkable

from equipoise.guard.guard_input import GuardInput

Action = Literal["allow", "flag", "rewrite", "refuse"]
ACTIONS: Final[tuple[Action, ...]] = ("allow", "flag", "rewrite", "refuse")
"""What a policy may choose, from the mildest to the strictest."""
Outcome = Literal["allow", "flag", "rewrite", "refuse", "withhold"]
OUTCOMES: Final[tuple[Outcome, ...]] = (*ACTIONS, "withhold")
"""What becomes of a reply. `withhold`: nobody could look at it, so nobody says it does harm, and it is not returned."""
CheckFailure = Literal["overloaded", "crowded", "hanging", "late", "failed", "unreadable"]
"""Why nobody could look: too much work, too much of one client's, work that hangs, no time left, an error, or
something that nobody here can look at."""
WITHHELD: Final = "This could not be checked, so it is withheld. Nothing was decided about what it says."
"""What stands in the place of a reply that is withheld, where a text has to stand there."""


@dataclass(frozen=True)
class HarmScore:
    """A detector's result for one reply."""

    detector: str
    """Who says it."""
    harm: float | None
    """The probability that the reply does harm, in [0, 1]: **high is harmful**. None where it could not be told."""
    categories: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """The probability of harm of each kind, where the detector tells kinds apart; the likeliest need not be alone."""
    failure: str | None = None
    """Why `harm` is None."""
    seconds: float = 0.0
    """How long it took."""
    reading: str = ""
    """How the text was read that has this score, such as `decoded`; empty where as it stands."""

    def __getstate__(self) -> dict[str, Any]:
        """For pickle, which cannot write the read-only mapping that stands for no kinds."""
        return {**self.__dict__, "categories": dict(self.categories)}

    @property
    def category(self) -> str | None:
        """The likeliest kind of harm; None where the detector tells none."""
        return max(self.categories, key=lambda name: self.categories[name], default=None)


@dataclass(frozen=True)
class GuardDecision:
    """What is done with one reply, why, and what decided."""

    action: Outcome
    """`allow` and `flag` return the reply as it is, byte for byte."""
    response: str
    """What is returned."""
    harm: float | None
    """The deciding score of the *original* reply; None where nobody could tell."""
    decided_by: str
    """The detector that decided, `policy` where nothing was to be decided, or `fail mode` where a check failed."""
    why: str
    """One sentence."""
    categories: tuple[str, ...] = ()
    """Kinds of harm whose rule fired, the likeliest first."""
    rounds: int = 0
    """How many rewrites were tried."""
    scores: tuple[HarmScore, ...] = ()
    """Every score, of the original first and then of each rewrite, in the order in which they were taken."""
    original: str = ""
    """sha256 of the reply as it came (UTF-8), in hex."""
    observed: Outcome | None = None
    """What would have been done, where the policy only observes."""
    failure: CheckFailure | None = None
    """Why nobody could look, where `decided_by` is `fail mode`."""
    reread: int = 0
    """Characters that were read again, although they had been when the reply was shorter (see `growing_readings`)."""

    @property
    def changed(self) -> bool:
        """Whether what is returned is not what came."""
        return self.action in ("rewrite", "refuse", "withhold")


def sha256(text: str) -> str:
    """Of a reply, as decisions and records hold it; lone surrogates are kept apart instead of failing."""
    # `replace` would give two different texts with lone surrogates the same hash.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def difference(original: str, returned: str) -> str:
    """A unified diff, line by line; empty where nothing changed."""
    lines = difflib.unified_diff(original.splitlines(), returned.splitlines(), "original", "returned", lineterm="")
    return "\n".join(lines)


@runtime_checkable
class Detector(Protocol):
    """Replies in, probabilities of harm out. It never raises for a reply it cannot read: that is a `failure`."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def identity(self) -> str:
        """sha256 over everything that decides its scores."""
        ...

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        """One score for each reply, in order."""
        ...


@runtime_checkable
class Detoxifier(Protocol):
    """Harmful replies in, rewrites out; the pipeline decides whether a rewrite is returned."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def identity(self) -> str:
        """sha256 over everything that decides its rewrites."""
        ...

    def __call__(self, inputs: Sequence[GuardInput]) -> list[str | None]:
        """One rewrite for each reply, in order; None where it has none."""
        ...
