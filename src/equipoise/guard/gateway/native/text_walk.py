"""All texts in a document of another API, without the names that such documents are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from equipoise.guard.gateway.dialects import is_prose

_NAMED: Final = frozenset(
    {"id", "type", "status", "role", "object", "model", "format", "stop_reason", "service_tier", "phase"}
)
"""Fields that hold a name, as long as they hold no more than that; so do all fields that end in `_id`."""
_NAME: Final = re.compile(r"[\w.:/+=-]{0,128}", re.ASCII)
_UNSAID: Final = frozenset({"logprobs", "obfuscation"})
"""Fields that nobody shows: log-probabilities, and characters that hide the length of a piece."""
_ARGUMENTS: Final = frozenset({"input", "action", "actions", "arguments", "operation"})
"""Fields that a model writes: each text in them counts, whatever its field is called."""


def texts_in(value: Any, *, free: bool = False) -> Iterator[str]:
    """All texts in a value; numbers and names of fields are none.

    Args:
        value: of JSON.
        free: whether a model chose the fields, so that none of them holds only a name.
    """
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for field, item in value.items():
            if is_prose(field):
                yield field
            if field in _UNSAID or (not free and is_name(field, item)):
                continue
            yield from texts_in(item, free=free or field in _ARGUMENTS)
    elif isinstance(value, list):
        for item in value:
            yield from texts_in(item, free=free)


def is_name(field: str, value: Any) -> bool:
    """Whether a field of an API holds only a name: an id, a type, a status."""
    is_named = field in _NAMED or field.endswith("_id")
    return is_named and isinstance(value, str) and _NAME.fullmatch(value) is not None
