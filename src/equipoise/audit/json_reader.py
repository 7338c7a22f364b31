"""Strict reading of the JSON documents that an audit writes: a field of another type is one error that names it."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from equipoise.errors import UsageError, os_reason

Record = TypeVar("Record")
Choice = TypeVar("Choice", bound=str)
Scalar = TypeVar("Scalar", str, bool, int, float)
NAMES: Final = {str: "text", bool: "true or false", int: "an integer", float: "a number"}
"""How messages call the types of JSON values."""
ADVICE: Final = "try a copy of the run folder that nobody edited, or a new run"
"""The end of every message."""


class JsonObject:
    """An object of a JSON document that knows where it stands, so that an error can name the field."""

    def __init__(self, value: object, path: str) -> None:
        """Wrap a decoded value.

        Args:
            value: what `json.loads` gave.
            path: where it stands, for messages: `summary.json` or `summary.json: variants.plain`.

        Raises:
            UsageError: it is no object.
        """
        if not isinstance(value, Mapping):
            raise _damaged(path, "an object", value)
        self.values: dict[str, Any] = dict(value)
        self.path = path

    @classmethod
    def load(cls, path: Path) -> JsonObject:
        """The object that a file holds.

        Raises:
            UsageError: there is no such file, or it holds no JSON object.
        """
        try:
            return cls(json.loads(path.read_text(encoding="utf-8")), str(path))
        except OSError as error:
            raise UsageError(f"expected a file at {path}, got '{os_reason(error)}'; try a new run") from error
        except (ValueError, RecursionError) as error:
            # Python's reader recurses: a few thousand nested brackets end it with a RecursionError.
            raise UsageError(f"expected JSON in {path}, got something else; {ADVICE}") from error

    def get(self, name: str, kind: type[Scalar]) -> Scalar:
        """A field that is text, a truth value, an integer or a number; an integer is a number, too."""
        value = self._field(name)
        if not _is(value, kind):
            raise _damaged(self._at(name), NAMES[kind], value)
        return kind(value)

    def optional(self, name: str, kind: type[Scalar]) -> Scalar | None:
        """As `get`, where null stands for a value that is not known."""
        return None if self._field(name) is None else self.get(name, kind)

    def one_of(self, name: str, choices: Sequence[Choice]) -> Choice:
        """A field that is one of some texts."""
        value = self._field(name)
        for choice in choices:
            if choice == value:
                return choice
        raise _damaged(self._at(name), f"one of {', '.join(choices)}", value)

    def object(self, name: str) -> JsonObject:
        """A field that is an object."""
        return JsonObject(self._field(name), self._at(name))

    def objects(self, name: str) -> dict[str, JsonObject]:
        """A field that is an object of objects, such as suites by name."""
        inner = self.object(name)
        return {key: JsonObject(value, inner._at(key)) for key, value in inner.values.items()}

    def items(self, name: str) -> list[JsonObject]:
        """A field that is a list of objects."""
        return [JsonObject(value, f"{self._at(name)}[{index}]") for index, value in enumerate(self._list(name))]

    def list_of(self, name: str, kind: type[Scalar]) -> tuple[Scalar, ...]:
        """A field that is a list of values of one type."""
        values = self._list(name)
        for index, value in enumerate(values):
            if not _is(value, kind):
                raise _damaged(f"{self._at(name)}[{index}]", NAMES[kind], value)
        return tuple(kind(value) for value in values)

    def counts(self, name: str) -> dict[str, int]:
        """A field that is an object of counts."""
        counts = self.object(name)
        return {key: counts.get(key, int) for key in counts.values}

    def record(self, kind: type[Record]) -> Record:
        """This object as a flat dataclass: each of its fields is a scalar, a scalar or null, or a list of scalars.

        Fields of the document that the dataclass lacks are left out: they are derived from others, or of a later
        version.
        """
        assert dataclasses.is_dataclass(kind)
        hints = get_type_hints(kind)
        return kind(**{field.name: self._typed(field.name, hints[field.name]) for field in dataclasses.fields(kind)})

    def _typed(self, name: str, hint: Any) -> Any:
        if get_origin(hint) is tuple:
            return self.list_of(name, get_args(hint)[0])
        if get_origin(hint) is types.UnionType:
            return self.optional(name, next(part for part in get_args(hint) if part is not types.NoneType))
        return self.get(name, hint)

    def _field(self, name: str) -> Any:
        if name not in self.values:
            raise UsageError(f"expected a value at {self._at(name)}, got no such field; {ADVICE}")
        return self.values[name]

    def _list(self, name: str) -> list[Any]:
        value = self._field(name)
        if not isinstance(value, list):
            raise _damaged(self._at(name), "a list", value)
        return value

    def _at(self, name: str) -> str:
        # Names of suites and variants are fields, too; one with a line break would end the line of the message.
        shown = name if name.isprintable() else json.dumps(name)
        return f"{self.path}.{shown}" if ": " in self.path else f"{self.path}: {shown}"


def _is(value: object, kind: type) -> bool:
    # In Python a truth value is an integer; in these documents it is never meant as one.
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        # JSON has integers of any length; one above 1.8e308 is no float.
        try:
            return isinstance(value, int | float) and math.isfinite(value)
        except OverflowError:
            return False
    return isinstance(value, kind)


def _damaged(path: str, expected: str, value: object) -> UsageError:
    return UsageError(f"expected {expected} at {path}, got {json.dumps(value, default=str)[:80]}; {ADVICE}")
