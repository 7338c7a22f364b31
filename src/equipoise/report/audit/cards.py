"""Judge cards: who judged, and how often that judge agrees with people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.report.audit.numbers import DASH, finite
from equipoise.report.audit.wording import mapping, mappings, plain


@dataclass(frozen=True)
class Agreement:
    """Agreement with people on one set of labelled replies."""

    labels: str
    """Which set."""
    model: str
    """Whose replies were labelled."""
    label: str
    """Which label was compared; empty where the card does not say."""
    n: str
    """How many replies."""
    kappa: str
    """Cohen's kappa with its interval."""
    sensitivity: str
    """Share of people's yes that the judge says yes to."""
    specificity: str
    """Share of people's no that the judge says no to."""
    is_target: bool
    """Whether it is the audited model's replies."""


@dataclass(frozen=True)
class Member:
    """A judge inside a judge."""

    role: str
    """What it is there for."""
    name: str
    """Its name."""
    identity: str
    """Its identity hash."""


@dataclass(frozen=True)
class JudgeCard:
    """One judge."""

    name: str
    """Its name."""
    identity: str
    """Its identity hash."""
    members: tuple[Member, ...]
    """Whom it asks."""
    notes: tuple[str, ...]
    """What it says of itself."""
    agreement: tuple[Agreement, ...]
    """How often it agrees with people; empty when nobody checked."""


def read_cards(judges: object, model: str) -> list[JudgeCard]:
    """The judges of a summary.

    Args:
        judges: the list of them.
        model: the audited model.
    """
    return [_card(judge, model) for judge in mappings(judges)]


def _card(judge: Mapping[str, Any], model: str) -> JudgeCard:
    members = [
        Member(str(part.get("role") or ""), str(part.get("name") or "judge"), str(part.get("identity") or ""))
        for part in mappings(judge.get("members"))
    ]
    return JudgeCard(
        name=str(judge.get("name") or "judge"),
        identity=str(judge.get("identity") or ""),
        members=tuple(members),
        notes=tuple(plain(note) for note in judge.get("notes") or () if note),
        agreement=tuple(_agreement(row, model) for row in _rows(judge)),
    )


def _rows(judge: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows of a card, whether they lie in the judge itself, in its card or in several cards."""
    for name in ("rows", "cards", "agreement"):
        for entry in mappings(judge.get(name)):
            if "kappa" in entry or "n" in entry:
                yield entry
            else:
                yield from _rows(entry)
    card = mapping(judge.get("card"))
    if card:
        yield from _rows(card)


def _agreement(row: Mapping[str, Any], model: str) -> Agreement:
    target = str(row.get("model") or row.get("target") or "")
    return Agreement(
        labels=str(row.get("set") or row.get("labels") or "unnamed labels"),
        model=target,
        label=str(row.get("label") or ""),
        n=plain(row.get("n")),
        kappa=_with_interval(row),
        sensitivity=_share(row.get("sensitivity")),
        specificity=_share(row.get("specificity")),
        is_target=bool(target) and target == model,
    )


def _with_interval(row: Mapping[str, Any]) -> str:
    kappa = finite(row.get("kappa"))
    low, high = (finite(row.get(name, row.get(f"kappa_{name}"))) for name in ("low", "high"))
    if kappa is None:
        return "unknown"
    return f"{kappa:.2f}" if low is None or high is None else f"{kappa:.2f} ({low:.2f}{DASH}{high:.2f})"


def _share(value: object) -> str:
    share = finite(value)
    return "unknown" if share is None else f"{share:.3f}"
