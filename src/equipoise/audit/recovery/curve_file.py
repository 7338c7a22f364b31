"""The curve of the refusal's probability as a run folder holds it: `refusal-curve.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.json_reader import JsonObject
from equipoise.files import write_json

NAME: Final = "refusal-curve.json"


@dataclass(frozen=True)
class CurvePoint:
    """A mean over answers, after so many of their tokens."""

    depth: int
    """Tokens of the answer that the reply has begun with."""
    n: int
    """Answers that reach so far."""
    mean: float
    """Mean probability that the next token begins a refusal."""
    low: float
    """Lower end of its 95 % interval (normal approximation over answers)."""
    high: float
    """Upper end."""


@dataclass(frozen=True)
class RefusalCurve:
    """The curves of a model."""

    openers: tuple[str, ...]
    """The tokens that count as the beginning of a refusal."""
    harmful: tuple[CurvePoint, ...]
    """Over harmful answers."""
    harmless: tuple[CurvePoint, ...]
    """Over harmless answers; empty where there are none."""

    def to_json(self) -> dict[str, Any]:
        """`{openers, harmful, harmless}`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        points = {
            name: tuple(point.record(CurvePoint) for point in values.items(name)) for name in ("harmful", "harmless")
        }
        return cls(openers=values.list_of("openers", str), **points)


def write_curve(folder: Path, curve: RefusalCurve) -> None:
    """Write the curve into a run folder, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_json(folder / NAME, curve.to_json())


def read_curve(folder: Path) -> RefusalCurve | None:
    """The curve of a run folder; None where it holds none.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / NAME
    return RefusalCurve.from_json(JsonObject.load(path)) if path.is_file() else None
