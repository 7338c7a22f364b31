"""Keys of several served models: each is sent to the host that it is for, and to no other."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlsplit

import typer

from equipoise.errors import UsageError
from equipoise.judges.catalogue import key_from
from equipoise.served_models.endpoint import KEY_VARIABLE

SCHEMES: Final = ("http://", "https://")
SECRET: Final = re.compile(r"key|token|secret|sig|pass|auth|credential|^code$", re.IGNORECASE)
"""What the name of a parameter of an address holds whose value is a secret."""
KeyVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key-env",
        help=f"Environment variable with the key of the first served model's host; HOST=VARIABLE for another host; "
        f"repeatable. {KEY_VARIABLE} by default.",
        show_default=False,
    ),
]


def is_served(name: str) -> bool:
    """Whether a model's name is an address."""
    return name.startswith(SCHEMES)


def require_no_secret(name: str) -> None:
    """Check that an address, which stands in reports, holds no secret.

    Raises:
        UsageError: it holds a user, a password, or a parameter that is named like a key.
    """
    address = urlsplit(name)
    if address.username is not None or address.password is not None:
        raise UsageError(
            "expected an address without user and password, which would stand in the report, got one with them; "
            "try --api-key-env"
        )
    secret = next((key for key, _ in parse_qsl(address.query, keep_blank_values=True) if SECRET.search(key)), None)
    if secret is not None:
        raise UsageError(
            f"expected an address without a key, which would stand in the report, got the parameter {secret}; "
            "try --api-key-env or --header"
        )


class ServedKeys:
    """The keys of the served models of one command.

    Args:
        values: of `--api-key-env`.
        models: all models of the command, the main one first; those with weights do not matter.

    Raises:
        UsageError: a variable is not set, a host has two, or is that of no model.
    """

    def __init__(self, values: Sequence[str], models: Sequence[str]) -> None:
        hosts = list(dict.fromkeys(_host(name) for name in models if is_served(name)))
        self._keys: dict[str, str | None] = {}
        for value in values:
            named, equals, variable = value.rpartition("=")
            host = named.strip().lower() if equals else next(iter(hosts), "")
            if host not in hosts:
                known = ", ".join(hosts) or "none"
                raise UsageError(
                    f"expected the host of a served model for --api-key-env, got {named or variable!r}; "
                    f"served models are at: {known}"
                )
            if host in self._keys:
                raise UsageError(f"expected one key for {host}, got two; try HOST=VARIABLE for another host")
            self._keys[host] = key_from(variable.strip())
        if hosts and hosts[0] not in self._keys:
            self._keys[hosts[0]] = os.environ.get(KEY_VARIABLE)

    def of(self, model: str) -> str | None:
        """The key of a served model's host; None where it has none."""
        return self._keys.get(_host(model))


def _host(name: str) -> str:
    """Host and port of an address, as it is written."""
    return urlsplit(name).netloc.rpartition("@")[2].lower()
