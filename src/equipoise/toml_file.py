"""TOML files that are checked against a pydantic model: one error that names the file and the setting."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from equipoise.errors import UsageError, os_reason

Document = TypeVar("Document", bound=BaseModel)


def read(model: type[Document], path: Path, what: str, hint: str) -> Document:
    """Read and check a TOML file.

    Args:
        model: what it should be.
        path: where it is.
        what: what people call it.
        hint: the command that shows a good one.

    Raises:
        UsageError: nothing there, not UTF-8, not TOML, or a setting that cannot be; the message names the setting.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"expected {what}, got {path}: {os_reason(error)}; try {hint}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"expected UTF-8, got {path}; try saving it as UTF-8") from error
    return validated(model, text, str(path), what, hint)


def validated(model: type[Document], text: str, where: str, what: str, hint: str) -> Document:
    """A document from the text of a TOML file; arguments and errors as in `read`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"expected TOML, got {where}: {error}; try checking that line") from error
    except RecursionError as error:
        # tomllib recurses into nested arrays: some hundred brackets are more than any document has.
        raise UsageError(f"expected {what}, got {where}: nested too deeply; try {hint}") from error
    except ValueError as error:
        # Python reads no number of more than some thousand digits.
        raise UsageError(f"expected {what}, got {where}: a number of too many digits; try {hint}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        errors = error.errors()
        own = [one for one in errors if not _follows(one, errors)]
        first = own[0]
        more = f" (and {len(own) - 1} more)" if len(own) > 1 else ""
        raise UsageError(
            f"expected {what}, got {where}: {_setting(first)}: {_reason(first)}{more}; try {hint}"
        ) from error


def _follows(one: Mapping[str, Any], errors: list[Any]) -> bool:
    """Whether an error is only the trace of another one: a list whose every item is wrong counts as empty, too."""
    inside = (other["loc"][: len(one["loc"])] == one["loc"] and other is not one for other in errors)
    return one["type"] == "too_short" and any(inside)


def _setting(one: Mapping[str, Any]) -> str:
    """Where a setting stands; items of lists are counted from 1."""
    return ".".join(str(part + 1 if isinstance(part, int) else part) for part in one["loc"]) or "the file"


def _reason(one: Mapping[str, Any]) -> str:
    """What is wrong with a setting, in the words of somebody who writes the file."""
    context = one.get("ctx") or {}
    key = str(context.get("discriminator", "")).strip("'")
    reasons = {
        "extra_forbidden": "there is no such setting",
        "missing": "it is missing",
        "tuple_type": "it has to be a list, as [[...]] begins one",
        "list_type": "it has to be a list, as [[...]] begins one",
        "too_short": f"it needs {context.get('min_length')} or more",
        "union_tag_not_found": f"it needs a {key}",
        "union_tag_invalid": f"{key} is {context.get('tag')!r}, and has to be {context.get('expected_tags')}",
    }
    if one["type"] == "value_error":
        # A message of ours: its capitals may belong to what the user wrote.
        return str(one["msg"]).removeprefix("Value error, ")
    return reasons.get(one["type"]) or str(one["msg"]).lower()
