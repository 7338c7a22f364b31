"""`read_json`: the JSON object in a request's body, with a limit on its size."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeVar

from starlette.requests import Request

from equipoise.guard.gateway.blobs import LONG
from equipoise.guard.gateway.body_budget import BodyBudget, HeldBody
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.json_depth import MOST, is_too_deep
from equipoise.guard.gateway.json_nodes import MOST_NODES, has_too_many_nodes

WorkResult = TypeVar("WorkResult")
LARGEST: Final = 64_000_000
"""Bytes of a request."""
PATIENCE: Final = 30.0
"""Seconds for a short body; a long one has more."""
SLOWEST: Final = 20_000
"""Bytes a second at which a long body must come."""


async def read_json(request: Request, budget: BodyBudget) -> dict[str, Any]:
    """The JSON object in a request's body.

    Args:
        request: not read yet.
        budget: of all bodies that are on their way.

    Raises:
        RequestProblem: the body is compressed, too long, too slow, nested too deep, has too many values, is no JSON
            object, or there is no room for it.
    """
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("", "identity"):
        # Not unpacked: a few bytes can stand for gigabytes.
        raise RequestProblem(
            415, f"expected a body without content-encoding, got {packing[:40]}", "unsupported_encoding"
        )
    with budget.body() as held:
        body = await _received(request, held)
        return await asyncio.to_thread(_parsed, body) if held.size > LONG else _parsed(body)


async def _received(request: Request, held: HeldBody) -> bytes:
    """A body's bytes.

    Raises:
        RequestProblem: they are too many, too slow, or there is no room for them.
    """
    parts = []
    begin = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(PATIENCE) as limit, aclosing(request.stream()) as received:
            async for part in received:
                held.take(len(part))
                if held.size > LARGEST:
                    message = f"expected a request of at most {LARGEST} bytes"
                    raise RequestProblem(413, message, "request_too_large", {"connection": "close"})
                parts.append(part)
                # Who sends nothing, or a byte now and then, would keep one of the places for requests for ever.
                limit.reschedule(begin + PATIENCE + held.size / SLOWEST)
    except TimeoutError as error:
        message = f"expected the request's body within {PATIENCE:g} seconds, or {SLOWEST} bytes a second"
        raise RequestProblem(408, message, "request_timeout", {"connection": "close"}) from error
    return b"".join(parts)


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
        document = json.loads(text, parse_constant=reject_constant, parse_float=finite)
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


def finite(digits: str) -> float:
    """A number; 1e999 is JSON, and Python reads it as infinity, which no JSON can say.

    Raises:
        ValueError: it does not fit into 64 bits.
    """
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"expected numbers that fit into 64 bits, got {digits[:40]}")
    return number


def reject_constant(name: str) -> None:
    """Refuse NaN and Infinity, which Python's parser accepts and JSON does not have.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no JSON")
