"""Checks of the numbers among an attack's settings."""

from __future__ import annotations

from equipoise.errors import UsageError


def check_counts(settings: object, *, least: int = 1, **suggestions: int) -> None:
    """Raise an error for the first setting that is no whole number or too small; None passes.

    Args:
        settings: whose attributes are checked.
        least: the smallest that passes.
        suggestions: a value to try in place of a wrong one, by the setting's name.

    Raises:
        UsageError: a setting is no whole number, or below `least`.
    """
    for name, suggestion in suggestions.items():
        value = getattr(settings, name)
        # A bool is an int of Python, and `steps=True` a slip.
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise UsageError(f"expected {name} as a whole number of at least {least}, got {value!r}; try {suggestion}")
