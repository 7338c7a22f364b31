"""What `equipoise direction measure` knows of a direction, as values that go to JSON and to the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from equipoise.stats.estimates import PairedChange
from equipoise.stats.proportions import Rate


@dataclass(frozen=True)
class LayerSeparation:
    """How well one layer separates kinds of prompts along the direction."""

    layer: int
    """Input of this layer."""
    harmful: float
    """AUROC of harmful against harmless prompts."""
    pseudo: float | None
    """AUROC of harmless prompts that look harmful against harmless ones; high predicts needless refusals."""
    contrast: float | None
    """AUROC of harmful prompts against those that only look harmful."""


@dataclass(frozen=True)
class ConditionRates:
    """Refusals of each set of prompts under one edit."""

    name: str
    """`plain`, `ablated`, `added`, or the coefficient of an addition."""
    coefficient: float | None
    """Of the addition; None where nothing is added."""
    rates: Mapping[str, Rate]
    """Set of prompts to the rate of judged refusals."""
    changes: Mapping[str, PairedChange]
    """Set of prompts to the change against the plain model, on the same prompts."""
    seconds: float
    """Time of the generation."""


@dataclass(frozen=True)
class NullComparison:
    """A direction against random ones of the same length: log-odds of a refusal, by forward passes alone."""

    name: str
    """`bypass` (ablation, harmful prompts; low is strong) or `induce` (addition, harmless prompts; high is strong)."""
    plain: float
    """Without an edit."""
    value: float
    """Of the direction."""
    random: tuple[float, ...]
    """Of the random directions."""

    @property
    def stronger(self) -> int:
        """How many random directions have an effect at least as strong in the same sense."""
        if self.name == "bypass":
            return sum(value <= self.value for value in self.random)
        return sum(value >= self.value for value in self.random)

    @property
    def p(self) -> float:
        """Permutation p-value: `(1 + stronger) / (1 + n)`."""
        # The direction counts as one draw of the null (Phipson and Smyth 2010): with n draws p is never below 1 / (1 +
        # n).
        return (1 + self.stronger) / (1 + len(self.random))


@dataclass(frozen=True)
class CrossEntropies:
    """Mean cross-entropy in nats per token."""

    name: str
    """`ordinary text` or `own replies`."""
    tokens: int
    """Tokens that were predicted."""
    plain: float
    """Without an edit."""
    ablated: float
    """Under ablation."""
    added: float
    """With the direction added at coefficient 1."""


@dataclass(frozen=True)
class PictureTransfer:
    """Whether a direction of text prompts is that of the same requests drawn into pictures."""

    cosine: float | None
    """Of the two differences in means."""
    auroc: float | None
    """Of drawn harmful against drawn harmless requests along the text's direction."""
    reason: str | None
    """Why it was not measured."""


@dataclass(frozen=True)
class DirectionMeasurement:
    """Everything that was measured of one direction."""

    direction: Mapping[str, Any]
    """`Direction.to_dict()`."""
    model: str
    """Name of the model."""
    revision: str
    """Its weights."""
    judge: str
    """Who judged refusals."""
    counts: Mapping[str, int]
    """Prompts of each set."""
    layers: tuple[LayerSeparation, ...]
    """By layer."""
    conditions: tuple[ConditionRates, ...]
    """Plain, ablated, added."""
    dose: tuple[ConditionRates, ...]
    """Additions at several coefficients."""
    null: tuple[NullComparison, ...]
    """Against random directions."""
    split_half: float
    """Cosine of the directions of two halves of these prompts."""
    agreement: float
    """Cosine of the direction with that of these prompts."""
    entropies: tuple[CrossEntropies, ...]
    """Side damage."""
    picture: PictureTransfer
    """Text against pictures."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        document = asdict(self)
        document["null"] = [asdict(part) | {"stronger": part.stronger, "p": part.p} for part in self.null]
        plain = next(part.seconds for part in self.conditions if part.name == "plain")
        document["cost"] = {part.name: part.seconds / plain for part in self.conditions if plain > 0}
        return document
