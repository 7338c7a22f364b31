"""`grouped`: things by a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def grouped(items: Iterable[Item], by: Callable[[Item], str]) -> dict[str, list[Item]]:
    """Things by a name, in the order in which the names first appear.

    Args:
        items: cases, or pairs of them.
        by: gives the name.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(by(item), []).append(item)
    return groups
