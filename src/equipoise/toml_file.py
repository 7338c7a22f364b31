"""TOML files that are checked against a pydantic model: one error that names the file and the setting."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from equipoise.errors import UsageError

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
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"expected {what}, got {path}: {error.strerror}; try {hint}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"expected UTF-8, got {path}; try saving it as UTF-8") from error
    return validated(model, text, str(path), what, hint)


def validated(model: type[Document], text: str, where: str, what: str, hint: str) -> Document:
    """A document from the text of a TOML file; arguments and errors as in `read`."""
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"expected TOML, got {where}: {error}; try checking that line") from error
    except RecursionError as error:
        # tomllib recurses into nested arrays: some hundred brackets are more than any document has.
        raise UsageError(f"expected {what}, got {where}: nested too deeply; try {hint}") from error
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(
            f"expected {what}, got {where}: {setting}: {first['msg'].lower()}{more}; try {hint}"
        ) from error
