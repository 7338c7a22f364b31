"""`read_json`: the JSON object in a request's body, with a limit on its size."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any, Final

from starlette.requests import Request

from equipoise.guard.gateway.errors import RequestProblem

LARGEST: Final = 64_000_000
"""Bytes of a request."""


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        RequestProblem: the body is too long, or no JSON object.
    """
    parts, size = [], 0
    async with aclosing(request.stream()) as received:
        async for part in received:
            size += len(part)
            if size > LARGEST:
                raise RequestProblem(413, f"expected a request of at most {LARGEST} bytes", "request_too_large")
            parts.append(part)
    try:
        document = json.loads(b"".join(parts), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise RequestProblem(400, "expected JSON", "invalid_json") from error
    if not isinstance(document, dict):
        raise RequestProblem(400, f"expected a JSON object, got {type(document).__name__}", "invalid_json")
    return document


def _reject_constant(name: str) -> None:
    # Python's parser accepts NaN and Infinity, which JSON does not have.
    raise ValueError(f"{name} is no JSON")
