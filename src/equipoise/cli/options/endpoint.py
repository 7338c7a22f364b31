"""Options of served models, for the target of an audit and for judges: headers, fields, temperature, length limit."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

HEADER_OPTIONS: Final = ("--header", "--judge-header")
"""Options whose values may hold secrets."""
_PASSWORD: Final = re.compile(r"(\w+://[^/\s:@]*):[^/\s]+@")
"""A user and a password in an address."""


class LimitField(StrEnum):
    """Which field of a request limits the length of a reply."""

    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"
    none = "none"


def endpoint_settings(
    headers: list[str] | None, extra_body: str | None, temperature: str | None, limit_field: LimitField | None
) -> dict[str, Any]:
    """The fields of a `ServedEndpoint` that a user named; empty where none was.

    Args:
        headers: each `NAME=VALUE`.
        extra_body: a JSON object.
        temperature: a number, or `none`.
        limit_field: which field limits the length.

    Raises:
        UsageError: a value has another form.
    """
    from equipoise.served_models.endpoint import parse_extra_body, parse_headers, parse_temperature

    return {
        **({"headers": parse_headers(headers)} if headers else {}),
        **({"extra_body": parse_extra_body(extra_body)} if extra_body is not None else {}),
        **({"temperature": parse_temperature(temperature)} if temperature is not None else {}),
        **({"max_tokens_field": limit_field.value} if limit_field is not None else {}),
    }


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command that is running, for the record of a run, without the values of headers.

    Args:
        arguments: without the program's name; None takes those of this process.
    """
    shown = ["equipoise"]
    # Both spellings: `--header=NAME=VALUE` is one argument, `--header NAME=VALUE` two.
    for argument in sys.argv[1:] if arguments is None else arguments:
        option, equals, value = argument.partition("=")
        if option in HEADER_OPTIONS and equals:
            shown.append(f"{option}={_without_value(value)}")
        else:
            shown.append(_without_value(argument) if shown[-1] in HEADER_OPTIONS else argument)
    return shlex.join(map(without_password, shown))


def without_password(text: str) -> str:
    """A text in which the password of an address is `***`."""
    return _PASSWORD.sub(r"\1:***@", text)


def _without_value(header: str) -> str:
    return f"{header.partition('=')[0]}=***"
