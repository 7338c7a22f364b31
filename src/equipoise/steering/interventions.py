"""Interventions: what is done to the stream of a model while it runs, as values that a defence holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from equipoise.steering.direction import Direction, require_coefficient
from equipoise.steering.edits import AnyPositions, ablate, add
from equipoise.steering.steerable import Steerable


class Intervention(Protocol):
    """Edits the stream of a model inside a context."""

    def applied(self, steerable: Steerable) -> AbstractContextManager[Any]:
        """The context in which the model is steered.

        Raises:
            ModelError: it belongs to another model.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """As JSON, for a recipe."""
        ...


@dataclass(frozen=True)
class Ablation:
    """Removes a direction from everything that reads the stream."""

    direction: Direction
    """What is removed; its length does not matter."""
    coefficient: float = 1.0
    """Less than 1 removes a part."""
    positions: AnyPositions = "all"
    """Which tokens."""

    def __post_init__(self) -> None:
        """Check the coefficient."""
        require_coefficient(self.coefficient)

    def applied(self, steerable: Steerable) -> AbstractContextManager[Any]:
        """The context in which the model is steered."""
        self.direction.check_model(steerable)
        return ablate(steerable, self.direction.vector, coefficient=self.coefficient, positions=self.positions)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"intervention": "ablate", "coefficient": self.coefficient, **_identity(self.direction)}


@dataclass(frozen=True)
class Addition:
    """Adds a direction to the stream at its layer."""

    direction: Direction
    """What is added; its length matters."""
    coefficient: float = 1.0
    """Times the direction; negative takes it away."""
    positions: AnyPositions = "all"
    """Which tokens."""

    def __post_init__(self) -> None:
        """Check the coefficient."""
        require_coefficient(self.coefficient)

    def applied(self, steerable: Steerable) -> AbstractContextManager[Any]:
        """The context in which the model is steered."""
        self.direction.check_model(steerable)
        return add(
            steerable,
            self.direction.vector,
            layers=[self.direction.layer],
            coefficient=self.coefficient,
            positions=self.positions,
        )

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"intervention": "add", "coefficient": self.coefficient, **_identity(self.direction)}


def _identity(direction: Direction) -> dict[str, Any]:
    digest = direction.digest
    return {"direction": digest, "kind": direction.kind, "layer": direction.layer, "position": direction.position}
