"""Reasons not to trust the numbers of a page: each once, the one that may change most first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from equipoise.audit.warnings import AuditWarning
from equipoise.report.audit.numbers import SPACE


@dataclass(frozen=True)
class Doubt:
    """A reason, and all the numbers that it is about."""

    number: int
    """Its place in the list, from 1; numbers on the page refer to it."""
    text: str
    """The reason, with its figures."""
    kind: str
    """Which rule raised it."""
    may_change: float | None
    """By how much it may change a number, in [0, 1]; None where it is unknown."""
    about: tuple[str, ...]
    """What it is about: variant, suite and rate in words; empty for the whole run."""

    @property
    def weight(self) -> str:
        """How much it may change, for people."""
        if self.may_change is None:
            return "by an unknown amount"
        if self.may_change >= 0.995:
            return "all of it"
        points = 100 * self.may_change
        return f"up to {points:.0f}{SPACE}points" if points >= 1 else f"less than 1{SPACE}point"


def list_doubts(warnings: Iterable[AuditWarning]) -> tuple[tuple[Doubt, ...], Mapping[AuditWarning, int]]:
    """The doubts of some warnings, the weightiest first, and the number of each warning's doubt.

    Warnings of one kind and text are one doubt, wherever they stand: a suite that is alone on its axis raises what its
    variant raises. So is a warning whose text only repeats another's after a name.
    """
    groups: dict[tuple[str, str], list[AuditWarning]] = {}
    for warning in warnings:
        groups.setdefault((warning.kind, warning.text), []).append(warning)
    # The longest texts first: a text is folded into the shorter one that it repeats ("SUITE: text" into "text") before
    # the shorter one might itself be folded into another.
    for kind, text in sorted(groups, key=lambda key: -len(key[1])):
        shorter = next(
            (key for key in groups if key[0] == kind and key[1] != text and text.endswith(f": {key[1]}")), None
        )
        if shorter is not None:
            groups[shorter] += groups.pop((kind, text))
    # By weight, and in order of appearance within it (`item[0]`), so that the numbers on the page stay the same from
    # one rendering to the next.
    ordered = sorted(enumerate(groups.values()), key=lambda item: (-_weight(item[1]), item[0]))
    doubts: list[Doubt] = []
    numbers: dict[AuditWarning, int] = {}
    for number, (_, members) in enumerate(ordered, 1):
        known = [warning.may_change for warning in members if warning.may_change is not None]
        about = tuple(dict.fromkeys(filter(None, map(_scope, members))))
        doubts.append(Doubt(number, members[0].text, members[0].kind, max(known, default=None), about))
        numbers |= dict.fromkeys(members, number)
    return tuple(doubts), numbers


def _weight(members: Sequence[AuditWarning]) -> float:
    # What nobody can put a figure on comes after what is known to matter and before what is known to be little.
    known = [warning.may_change for warning in members if warning.may_change is not None]
    return max(known, default=0.05)


def _scope(warning: AuditWarning) -> str:
    rate = warning.rate and warning.rate.replace("_", " ")
    return ", ".join(part for part in (warning.suite, rate, warning.variant) if part)
