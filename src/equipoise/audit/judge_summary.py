"""The judge of a run, and how far it agrees with people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from equipoise.audit.json_reader import JsonObject
from equipoise.judges.cards import AgreementCard, AgreementRow, card_for


@dataclass(frozen=True)
class JudgeMember:
    """A judge inside a judge."""

    name: str
    """What it does there, such as `phrases`."""
    identity: str
    """Its identity hash."""


@dataclass(frozen=True)
class JudgeSummary:
    """Who judged a run."""

    name: str
    """Its name."""
    identity: str
    """Its identity hash."""
    members: tuple[JudgeMember, ...]
    """The judges that it combines; empty where it is a single one."""
    notes: tuple[str, ...]
    """What it says of itself."""
    card: AgreementCard | None
    """Its agreement with labels of people: its own card, else the one that ships; None where it was not measured."""
    settings: dict[str, Any]
    """All else that its description in the recipe holds."""

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Self:
        """A judge from its description in a recipe.

        Raises:
            UsageError: the description has not the form that `describe` of a judge gives.
        """
        values = JsonObject({"name": "judge", "members": [], "notes": [], **description}, "run.json: judge")
        return cls._read(values, card_for(values.get("identity", str)))

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        return cls._read(values, None)

    @classmethod
    def _read(cls, values: JsonObject, shipped: AgreementCard | None) -> Self:
        standard = ("name", "identity", "members", "notes", "card")
        return cls(
            name=values.get("name", str),
            identity=values.get("identity", str),
            members=tuple(member.record(JudgeMember) for member in values.items("members")),
            notes=values.list_of("notes", str),
            card=_card(values.object("card")) if values.values.get("card") is not None else shipped,
            settings={name: value for name, value in values.values.items() if name not in standard},
        )

    def to_json(self) -> dict[str, Any]:
        """The judge's description, with its card under `card` where there is one."""
        return {
            "name": self.name,
            "identity": self.identity,
            "members": [vars(member) for member in self.members],
            "notes": list(self.notes),
            **self.settings,
            **({"card": self.card.to_dict()} if self.card else {}),
        }


def _card(values: JsonObject) -> AgreementCard:
    return AgreementCard(
        name=values.get("name", str),
        identity=values.get("identity", str),
        rows=tuple(row.record(AgreementRow) for row in values.items("rows")),
        command=values.get("command", str),
    )
