"""Ids of tool calls that carry what a server wants back with the call.

Gemini refuses an earlier call without the signature of the thought before it, which stands in the call's field
`extra_content`. Neither responses nor messages have a place for it, but every client sends a call's id back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.json_depth import is_too_deep

_MARK: Final = "__extra__"


def with_extra(identity: str, extra: Any) -> str:
    """An id that carries a call's extra content; of letters, digits, `_` and `-`, as clients expect."""
    if not isinstance(extra, Mapping) or not extra:
        return identity
    packed = base64.urlsafe_b64encode(json.dumps(extra).encode()).decode().rstrip("=")
    return f"{identity}{_MARK}{packed}"


def without_extra(identity: Any) -> tuple[Any, dict[str, Any]]:
    """The id as the server gave it, and the field `extra_content` of its call; empty where it carries none."""
    plain, mark, packed = identity.partition(_MARK) if isinstance(identity, str) else (identity, "", "")
    if not mark:
        return identity, {}
    try:
        extra = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (ValueError, RecursionError):
        return identity, {}
    return (plain, {"extra_content": extra}) if isinstance(extra, dict) and not is_too_deep(extra) else (identity, {})
