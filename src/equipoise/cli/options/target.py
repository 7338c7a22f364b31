"""The target of an audit: a model by the name that the user gave it, as the engine takes it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.served_keys import is_served, require_no_secret
from equipoise.errors import UsageError
from equipoise.judges.catalogue import key_from

if TYPE_CHECKING:
    from equipoise.audit.engine.session import EvaluationTarget
    from equipoise.models.base import OpenModel

INSPECT: Final = "inspect:"
"""Before a name that inspect knows, such as `inspect:openai/gpt-4o`."""


def find_target(
    name: str, compute: GradientOptions, key_variable: str | None, endpoint: Mapping[str, Any] | None = None
) -> EvaluationTarget:
    """Find a model, and load it where it is one with weights.

    Args:
        name: what the user called it.
        compute: where and how a model of this process is loaded.
        key_variable: environment variable with the key of an `http://` target; None is `EQUIPOISE_API_KEY`.
        endpoint: fields of the `ServedEndpoint` that the user named.

    Raises:
        ModelError: there is no such model.
        UsageError: the name of a served model is not complete, its key is not there, or a setting is for other models.
        MissingExtraError: a served model without the extra `served`.
    """
    from equipoise.audit.engine.session import EvaluationTarget
    from equipoise.served_models.endpoint import KEY_VARIABLE, ServedEndpoint

    if name.startswith(INSPECT):
        settings = _inspect_settings(endpoint or {})
        return EvaluationTarget(name, revision="", spec=name.removeprefix(INSPECT), settings=settings)
    if is_served(name):
        if not name.partition("#")[2]:
            raise UsageError(f"expected the name of a model after the address, got {name}; try {name.rstrip('#')}#NAME")
        require_no_secret(name)
        key = key_from(key_variable) or os.environ.get(KEY_VARIABLE)
        served = ServedEndpoint.parse(name, api_key=key, **(endpoint or {}))
        variable = key_variable or KEY_VARIABLE
        return EvaluationTarget(name, revision="", spec=name, key_variable=variable, endpoint=served)
    if endpoint:
        option = f"--{next(iter(endpoint)).rstrip('s').replace('_', '-')}"
        raise UsageError(f"expected a served model for {option}, got {name}; try http://HOST/v1#NAME, or no {option}")
    model = compute.load(name)
    return EvaluationTarget(name, revision=model.revision, model=model)


def _inspect_settings(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model that inspect reaches by its own client.

    Raises:
        UsageError: one that only our client knows; inspect would write the values of headers into its logs.
    """
    for field, option in (("headers", "--header"), ("max_tokens_field", "--max-tokens-field")):
        if field in endpoint:
            raise UsageError(f"expected no {option} with {INSPECT}, got one; try http://HOST/v1#NAME")
    return {field: value for field, value in endpoint.items() if field in ("temperature", "extra_body")}


def defend_target(target: EvaluationTarget, specs: Sequence[str]) -> OpenModel | None:
    """The target in a chain of countermeasures; None without any.

    Raises:
        UsageError: there is no such countermeasure, or the target's weights are not here.
    """
    if not specs:
        return None
    from equipoise.countermeasures.catalogue import defend
    from equipoise.generation.request_gate import request_gate
    from equipoise.models.base import OpenModel

    if not isinstance(target.model, OpenModel):
        raise UsageError(
            f"expected a model with weights to defend, got {target.name}; try a folder or ORG/NAME, or no --defend"
        )
    return defend(target.model, specs, harm_gate=request_gate)


def slug(name: str) -> str:
    """A model's name as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "model"
