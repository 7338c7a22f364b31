"""Judge cards: who judged, and how often that judge agrees with labels that others gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.judges.cards import card_for
from equipoise.report.audit.numbers import DASH, finite
from equipoise.report.audit.untrusted_text import mapping, mappings, plain


@dataclass(frozen=True)
class CardAgreement:
    """Agreement with labels on one set of replies."""

    labels: str
    """Which set."""
    notes: str
    """Who labelled it, and how it was kept from the making of the judge."""
    model: str
    """Whose replies were labelled; `all` for the whole set."""
    n: str
    """How many replies."""
    unscored: str
    """How many of them the judge gave no label."""
    kappa: str
    """Cohen's kappa with its interval."""
    sensitivity: str
    """Share of the labelled refusals that the judge finds."""
    specificity: str
    """Share of the others that it leaves alone."""
    is_target: bool
    """Whether it is the audited model's replies."""


@dataclass(frozen=True)
class CardMember:
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
    role: str
    """What it is there for on this page."""
    members: tuple[CardMember, ...]
    """Whom it asks."""
    notes: tuple[str, ...]
    """What it says of itself."""
    agreement: tuple[CardAgreement, ...]
    """How often it agrees with labels; empty when nobody checked."""

    @property
    def total(self) -> tuple[CardAgreement, ...]:
        """One row a set, over all models; empty where the card has only single models."""
        return tuple(row for row in self.agreement if row.model == "all")

    @property
    def each(self) -> tuple[CardAgreement, ...]:
        """The rows of single models."""
        return tuple(row for row in self.agreement if row.model != "all")


def read_cards(judges: object, model: str) -> list[JudgeCard]:
    """The judges of a summary, and their members where something is known of them.

    Args:
        judges: the list of them, the one that reports first.
        model: the audited model.
    """
    found: dict[str, JudgeCard] = {}
    for number, judge in enumerate(mappings(judges)):
        card = _card(judge, model, "" if number else "made the numbers of this page")
        found.setdefault(card.identity or f"{number}", card)
        for part in mappings(judge.get("members")):
            member = _card(part, model, f"a part of {card.name}")
            if member.agreement:
                found.setdefault(member.identity, member)
    return list(found.values())


def _card(judge: Mapping[str, Any], model: str, role: str) -> JudgeCard:
    members = [
        CardMember(str(part.get("role") or ""), str(part.get("name") or "judge"), str(part.get("identity") or ""))
        for part in mappings(judge.get("members"))
    ]
    identity = str(judge.get("identity") or "")
    rows = list(_rows(judge))
    if not rows and (shipped := card_for(identity)):
        rows = list(_rows(shipped.to_dict()))
    return JudgeCard(
        name=str(judge.get("name") or "judge"),
        identity=identity,
        role=role,
        members=tuple(members),
        notes=tuple(plain(note) for note in judge.get("notes") or () if note),
        agreement=tuple(_agreement(row, model) for row in rows),
    )


def _rows(judge: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rows of a card, whether they lie in the judge itself, in its card or in several cards."""
    for name in ("rows", "cards"):
        for entry in mappings(judge.get(name)):
            if "kappa" in entry:
                yield entry
            else:
                yield from _rows(entry)
    card = mapping(judge.get("card"))
    if card:
        yield from _rows(card)


def _agreement(row: Mapping[str, Any], model: str) -> CardAgreement:
    target = str(row.get("model") or row.get("target") or "")
    notes = [f"labelled by {row['labels']}" if row.get("labels") else "", str(row.get("held_out") or "")]
    return CardAgreement(
        labels=str(row.get("set") or "unnamed labels"),
        notes="; ".join(note for note in notes if note),
        model=target,
        n=plain(row.get("n")),
        unscored=plain(row.get("unscored", 0)),
        kappa=_with_interval(row),
        sensitivity=_share(row.get("sensitivity")),
        specificity=_share(row.get("specificity")),
        is_target=bool(target) and target == model,
    )


def _with_interval(row: Mapping[str, Any]) -> str:
    kappa = finite(row.get("kappa"))
    low, high = (finite(row.get(f"kappa_{name}", row.get(name))) for name in ("low", "high"))
    if kappa is None:
        return "unknown"
    return f"{kappa:.2f}" if low is None or high is None else f"{kappa:.2f} ({low:.2f}{DASH}{high:.2f})"


def _share(value: object) -> str:
    share = finite(value)
    return "unknown" if share is None else f"{share:.3f}"
