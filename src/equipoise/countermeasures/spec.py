"""`CountermeasureSpec`: one countermeasure with its settings, as `NAME[:key=value,...]` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from equipoise.errors import UsageError


@dataclass(frozen=True)
class CountermeasureSpec:
    """A countermeasure with its settings, before anything is built."""

    name: str
    """As the catalogue has it."""
    given: Mapping[str, str]
    """The settings that were given."""
    defaults: Mapping[str, str]
    """All settings with the values that they have where none is given."""

    @property
    def values(self) -> dict[str, str]:
        """All settings, those that were given and the defaults of the others."""
        return {**self.defaults, **self.given}

    def with_setting(self, key: str, value: str) -> Self:
        """The same countermeasure with a further setting, or with another value of one."""
        return replace(self, given={**self.given, key: value})

    def to_text(self) -> str:
        """The spec that reads as this one.

        Raises:
            UsageError: a value that no spec can hold.
        """
        settings = [(key, self.given[key]) for key in self.defaults if key in self.given]
        for key, value in settings:
            # A comma begins the next setting, and blanks around a value do not belong to it.
            if "," in value or value != value.strip() or not value:
                raise UsageError(
                    f"expected {key} of {self.name} without a comma and without blanks at its ends, got {value!r}; "
                    "try another name or folder"
                )
        return self.name + (":" + ",".join(f"{key}={value}" for key, value in settings) if settings else "")
