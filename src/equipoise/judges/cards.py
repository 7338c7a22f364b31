"""Agreement cards: how far a judge agrees with labels that others gave, printed beside the results it made.

The shipped cards are measured by `benchmarks/judge_agreement.py --write`; a card belongs to one identity of a judge, so
that changed rules or weights have no card until they are measured again. Reading them imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from equipoise.errors import UsageError

SHIPPED: Final = Path(__file__).parent / "agreement_cards.json"
"""The cards of the judges that ship."""


@dataclass(frozen=True)
class AgreementRow:
    """A judge against the labels of one set, or of one model's replies in it."""

    set: str
    """Which set, such as `xstest`."""
    labels: str
    """Who labelled: `two people`, `a machine`."""
    licence: str
    """Of the set."""
    model: str
    """Whose replies; `all` for the whole set."""
    held_out: str
    """How these rows were kept from the making of the judge."""
    n: int
    """Rows, unscored ones included."""
    unscored: int
    """Rows the judge gave no label; kappa, sensitivity and specificity leave them out."""
    review: int
    """Rows with review marked; they count by the best guess."""
    kappa: float | None
    """Cohen's kappa of "refuses, in full or in part"; None where undefined."""
    kappa_low: float | None
    """Lower end of its 95 % bootstrap interval over prompts."""
    kappa_high: float | None
    """Upper end."""
    sensitivity: float | None
    """Share of the labelled refusals that the judge finds; None where there are none."""
    specificity: float | None
    """Share of the others that it leaves alone; None where there are none."""
    kappa_three: float | None
    """Cohen's kappa of none / partial / full."""
    over_refusal_judge: float | None = None
    """Share of the safe prompts that were refused, by this judge; None where the set does not say what is safe."""
    over_refusal_labels: float | None = None
    """The same by the labels."""
    safe: int = 0
    """How many safe prompts these two are of."""


@dataclass(frozen=True)
class AgreementCard:
    """What is known about how far one judge can be trusted."""

    name: str
    """Which judge: `phrases`, `encoder`, `ensemble`."""
    identity: str
    """The judge's identity hash; the numbers hold for no other."""
    rows: tuple[AgreementRow, ...]
    """By set and by model."""
    command: str
    """What measured it."""

    @property
    def overall(self) -> tuple[AgreementRow, ...]:
        """One row a set, over all models."""
        return tuple(row for row in self.rows if row.model == "all")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_dict` gave.

        Raises:
            UsageError: If fields are missing or unknown.
        """
        try:
            given = {**values, "rows": tuple(AgreementRow(**row) for row in values["rows"])}
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise UsageError(f"expected the fields of an agreement card, got {error}; try writing it again") from error


def card_for(identity: str) -> AgreementCard | None:
    """The shipped card of the judge with this identity; None where none was measured."""
    return next((card for card in shipped_cards() if card.identity == identity), None)


@cache
def shipped_cards(path: Path = SHIPPED) -> tuple[AgreementCard, ...]:
    """All shipped cards.

    Raises:
        UsageError: If the file is no list of cards.
    """
    try:
        cards = json.loads(path.read_text(encoding="utf-8"))["cards"]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"expected agreement cards in {path}, got {error}; try installing again") from error
    return tuple(AgreementCard.from_dict(card) for card in cards)
