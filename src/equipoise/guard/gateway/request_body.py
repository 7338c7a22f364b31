"""`read_json`: the JSON object in a request's body, with a limit on its size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

from starlette.requests import Request

from equipoise.guard.gateway.blobs import LONG
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.json_depth import MOST, is_too_deep
from equipoise.guard.gateway.json_nodes import MOST_NODES, has_too_many_nodes

WorkResult = TypeVar("WorkResult")
LARGEST: Final = 64_000_000
"""Bytes of a request."""


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
        RequestProblem: the body is compressed, too long, nested too deep, has too many values, or is no JSON object.
    """
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("", "identity"):
        # Not unpacked: a few bytes can stand for gigabytes.
        raise RequestProblem(
            415, f"expected a body without content-encoding, got {packing[:40]}", "unsupported_encoding"
        )
    parts, size = [], 0
    async with aclosing(request.stream()) as received:
        async for part in received:
            size += len(part)
            if size > LARGEST:
                raise RequestProblem(413, f"expected a request of at most {LARGEST} bytes", "request_too_large")
            parts.append(part)
    body = b"".join(parts)
    return await asyncio.to_thread(_parsed, body) if size > LONG else _parsed(body)


def _parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        RequestProblem: it is none, nested too deep, or has too many values.
    """
    try:
        # As `json.loads` does it with bytes.
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        if has_too_many_nodes(text):
            raise RequestProblem(413, f"expected JSON of at most {MOST_NODES} values", "request_too_large")
        document = json.loads(text, parse_constant=reject_constant)
    except (ValueError, RecursionError) as error:
        raise RequestProblem(400, "expected JSON", "invalid_json") from error
    if not isinstance(document, dict):
        raise RequestProblem(400, f"expected a JSON object, got {type(document).__name__}", "invalid_json")
    if is_too_deep(document):
        raise RequestProblem(400, f"expected JSON of at most {MOST} levels", "invalid_json")
    return document


async def worked_on(headers: Mapping[str, str], work: Callable[[], WorkResult]) -> WorkResult:
    """The result of work on a request's body; in a thread where the body is long, so that others need not wait.

    Args:
        headers: of the request; one that gives no length may be long.
        work: reads the body.
    """
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) <= LONG:
        return work()
    return await asyncio.to_thread(work)


def reject_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's parser accepts and JSON does not have.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no JSON")
