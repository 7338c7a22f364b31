"""The target of an audit: a model by the name that the user gave it, as the engine takes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from equipoise.cli.options.compute import GradientOptions
from equipoise.errors import UsageError
from equipoise.judges.catalogue import key_from

if TYPE_CHECKING:
    from equipoise.audit.engine.session import EvaluationTarget
    from equipoise.models.base import OpenModel

INSPECT: Final = "inspect:"
"""Before a name that inspect knows, such as `inspect:openai/gpt-4o`."""


def find_target(name: str, compute: GradientOptions, key_variable: str | None) -> EvaluationTarget:
    """Find a model, and load it where it is one with weights.

    Raises:
        ModelError: there is no such model.
        UsageError: the name of a served model is not complete, or its key is not there.
    """
    from equipoise.audit.engine.session import KEY_VARIABLE, EvaluationTarget

    if name.startswith(INSPECT):
        return EvaluationTarget(name, revision="", spec=name.removeprefix(INSPECT))
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
        return EvaluationTarget(name, revision="", spec=name, key_variable=key_variable or KEY_VARIABLE)
    model = compute.load(name)
    return EvaluationTarget(name, revision=model.revision, model=model)


def defend_target(target: EvaluationTarget, specs: Sequence[str]) -> OpenModel | None:
    """The target in a chain of countermeasures; None without any.

    Raises:
        UsageError: there is no such countermeasure, or the target's weights are not here.
    """
    if not specs:
        return None
    from equipoise.countermeasures.catalogue import defend
    from equipoise.models.base import OpenModel

    if not isinstance(target.model, OpenModel):
        raise UsageError(
            f"expected a model with weights to defend, got {target.name}; try a folder or ORG/NAME, or no --defend"
        )
    return defend(target.model, specs)


def slug(name: str) -> str:
    """A model's name as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "model"
