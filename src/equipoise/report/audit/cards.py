"""Judges as the page shows them: who judged, and how often that judge agrees with labels of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.audit.judge_summary import JudgeMember, JudgeSummary
from equipoise.judges.cards import AgreementRow, card_for
from equipoise.report.audit.numbers import DASH


@dataclass(frozen=True)
class JudgeCard:
    """One judge."""

    name: str
    """Its name."""
    identity: str
    """Its identity hash."""
    role: str
    """What it did for this page."""
    members: tuple[JudgeMember, ...]
    """The judges that it combines."""
    notes: tuple[str, ...]
    """What it says of itself."""
    rows: tuple[AgreementRow, ...]
    """How often it agrees with labels; empty when it was not measured."""

    @property
    def totals(self) -> tuple[AgreementRow, ...]:
        """One row a set, over all models; empty where the card has only single models."""
        return tuple(row for row in self.rows if row.model == "all")

    @property
    def by_model(self) -> tuple[AgreementRow, ...]:
        """The rows of single models."""
        return tuple(row for row in self.rows if row.model != "all")


def judge_cards(judges: Sequence[JudgeSummary]) -> list[JudgeCard]:
    """The judges of a summary, the one that made its numbers first, and those of their members that have a card."""
    cards: dict[str, JudgeCard] = {}
    for index, judge in enumerate(judges):
        role = (
            "judged this run before; its verdicts are kept and not used" if index else "made the numbers of this page"
        )
        rows = judge.card.rows if judge.card else ()
        cards.setdefault(
            judge.identity,
            JudgeCard(judge.name, judge.identity, role, judge.members, tuple(filter(None, judge.notes)), rows),
        )
        for member in judge.members:
            if card := card_for(member.identity):
                part = f"a part of {judge.name}"
                cards.setdefault(member.identity, JudgeCard(member.name, member.identity, part, (), (), card.rows))
    return list(cards.values())


def notes_of(row: AgreementRow) -> str:
    """Who labelled the set, and how it was kept from the making of the judge."""
    return "; ".join(filter(None, (f"labelled by {row.labels}" if row.labels else "", row.held_out)))


def kappa_of(row: AgreementRow) -> str:
    """Cohen's kappa with its interval: `0.91 (0.88-0.94)`."""
    if row.kappa is None:
        return "unknown"
    if row.kappa_low is None or row.kappa_high is None:
        return f"{row.kappa:.2f}"
    return f"{row.kappa:.2f} ({row.kappa_low:.2f}{DASH}{row.kappa_high:.2f})"
