"""`reply_json`: the JSON of an upstream, with null for the numbers that JSON, or the reader of a reply, cannot hold.

Some servers write infinite log-probabilities as `-Infinity` or `-1e999`. Python reads both as infinity, which no JSON
can say when the reply is written again.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

_DIGITS: Final = 20
"""Of the largest whole number of 64 bits, with its sign."""


def reply_json(data: bytes | str) -> Any:
    """A document.

    Args:
        data: JSON; bytes in any of Unicode's encodings.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deep.
    """
    return _DECODER.decode(_text(data))


def strict_reply_json(data: bytes | str) -> Any:
    """The same of a document in which no object has a name twice: of two a client may read the one not judged.

    Args:
        data: JSON.

    Raises:
        ValueError: it is none, or an object has a name twice.
        RecursionError: it is nested too deep.
    """
    return _STRICT_DECODER.decode(_text(data))


def _text(data: bytes | str) -> str:
    # As `json.loads` does it.
    return data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name twice in one object")
    return document


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> int | None:
    # Python itself refuses some thousand digits with an error.
    number = int(digits) if len(digits) <= _DIGITS else None
    return number if number is not None and -(2**63) <= number < 2**64 else None


def _null(name: str) -> None:
    return None


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_int=_whole, parse_constant=_null)
_STRICT_DECODER: Final = json.JSONDecoder(
    parse_float=_finite, parse_int=_whole, parse_constant=_null, object_pairs_hook=_once
)
