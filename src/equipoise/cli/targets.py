"""Who is asked: what the user called a model, as the engine takes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from equipoise.cli.judging import key_from
from equipoise.cli.loading import Machine
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.audit.engine.session import Target

INSPECT: Final = "inspect:"
"""Before a name that inspect knows, such as `inspect:openai/gpt-4o`."""


def target_of(name: str, machine: Machine, key_variable: str | None) -> Target:
    """Find a model, and load it where it is one with weights.

    Raises:
        ModelError: there is no such model.
        UsageError: the name of a served model is not complete, or its key is not there.
    """
    from equipoise.audit.engine.session import KEY_VARIABLE, Target

    if name.startswith(INSPECT):
        return Target(name, revision="", spec=name.removeprefix(INSPECT))
    if name.startswith(("http://", "https://")):
        if not name.partition("#")[2]:
            raise UsageError(f"expected the name of a model after the address, got {name}; try {name.rstrip('#')}#NAME")
        address = urlsplit(name)
        if address.username is not None or address.password is not None:
            raise UsageError(
                "expected an address without user and password, which would stand in the report, got one with them; "
                "try --api-key-env"
            )
        key_from(key_variable)
        return Target(name, revision="", spec=name, key_variable=key_variable or KEY_VARIABLE)
    model = machine.load(name)
    return Target(name, revision=model.revision, model=model)


def slug(name: str) -> str:
    """A model's name as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "model"
