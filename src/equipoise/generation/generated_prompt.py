"""What a search starts from and what it gives: seed prompts, generated prompts, and the labels of judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

RequestLabel = Literal["harmless", "controversial", "harmful", "abstain"]
"""What a judge says of a request; `controversial` is a class of its own: people differ about whether to answer it."""
LABELS: tuple[RequestLabel, ...] = ("harmless", "controversial", "harmful", "abstain")
"""All of them."""
SafetyCheck = Callable[[Sequence[str]], list[RequestLabel]]
"""The label of each request; a search keeps away from what is `harmful`."""
SaveState = Callable[[Mapping[str, Any]], None]
"""Called during a search with all that it needs to go on after a stop."""


def ignore_state(_state: Mapping[str, Any]) -> None:
    """Keeps nothing."""


@dataclass(frozen=True)
class SeedPrompt:
    """An ordinary prompt from which a search starts."""

    text: str
    """The prompt."""
    topic: str = "other"
    """What it is about; accepted prompts are spread evenly over topics."""


@dataclass(frozen=True)
class RequestVerdict:
    """What one judge says of one request."""

    judge: str
    """Name of the judge."""
    label: RequestLabel
    """Its label."""
    probability: float | None = None
    """Its probability that the request is harmful, where it has one."""
    reason: str = ""
    """Its ground: the matched words, or why it abstains."""


@dataclass(frozen=True)
class GeneratedPrompt:
    """A prompt that a search found, with all that is known of it."""

    text: str
    """The prompt; empty where the search failed."""
    seed: SeedPrompt
    """What it was made from."""
    method: str
    """`grown`, `mutated` or `paraphrased`."""
    number: int
    """Number of the attempt; the same number, settings and models give the same prompt."""
    scores: Mapping[str, float]
    """`refusal`: log-probability per token of the victim's refusal (or the log of the share of sampled refusals);
    `seed_refusal`: the same of the seed; `writer`: log-probability per token under the writer, where there is one."""
    trace: tuple[Mapping[str, Any], ...] = ()
    """Steps of the search, in order."""
    failure: str | None = None
    """Why the search gave no prompt."""
    reply: str = ""
    """The victim's reply."""
    refused: bool | None = None
    """Whether the victim refuses it, by the judge of replies; None where that judge could not decide."""
    verdicts: tuple[RequestVerdict, ...] = ()
    """What the judges of the gate say of it."""
    label: RequestLabel = "abstain"
    """What the gate makes of these verdicts."""
    rejected: str | None = None
    """Why it is not part of the suite; None for an accepted prompt."""
    words: tuple[tuple[str, float], ...] = ()
    """Its words, each with what its removal takes from the refusal score."""
    picture: str = ""
    """File name of the picture that is sent with it; empty without one."""
    picture_kind: str = ""
    """`benign` or `risky-looking`; empty without a picture."""

    @property
    def accepted(self) -> bool:
        """Whether it belongs to the suite."""
        return self.failure is None and self.rejected is None

    def but(self, **changes: Any) -> GeneratedPrompt:
        """A copy with other fields."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"scores": dict(self.scores), "trace": [dict(step) for step in self.trace]}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GeneratedPrompt:
        """What `to_dict` gave."""
        values = dict(document)
        values["seed"] = SeedPrompt(**values["seed"])
        values["trace"] = tuple(values["trace"])
        values["verdicts"] = tuple(RequestVerdict(**verdict) for verdict in values["verdicts"])
        values["words"] = tuple((str(word), float(weight)) for word, weight in values["words"])
        return cls(**values)
