"""`is_too_deep`: whether a JSON document is nested so deep that reading it could exceed Python's stack."""

from __future__ import annotations

from typing import Any, Final

MOST: Final = 200
"""Levels of objects and lists; requests and replies have about ten, and Python allows a thousand nested calls."""


def is_too_deep(document: Any, most: int = MOST) -> bool:
    """Whether a document has more levels than that.

    Args:
        document: parsed JSON.
        most: levels.
    """
    # Level by level, without recursion: a recursive test would fail on what it looks for.
    level = [document]
    for _ in range(most + 1):
        level = [item for value in level for item in _items(value) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
