"""Errors as clients of servers raise them, in every form in which servers write a message that means nothing sure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from hypothesis import strategies as st


class Response:
    """As HTTP clients keep them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.headers: dict[str, str] = {}


class StrippedError(Exception):
    """As OpenAI's client raises it: what stood around `error` is gone from the body, but not from the response."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"Error code: {status}")
        self.status_code = status
        self.body = body.get("error", body) if isinstance(body, dict) else body
        self.response = Response(body if isinstance(body, str) else json.dumps(body))


NAMES: Final = ("Organization", "Policy", "constraint", "violated", "blocked", "flagged", "rejected", "refused",
                "safety", "moderation", "guidelines", "usage", "content", "filter", "disallowed", "model", "key",
                "prompt", "policies", "harmful", "your", "by", "the", "violates")  # fmt: skip
WORDS: Final = st.lists(st.sampled_from(NAMES), min_size=1, max_size=14).map(" ".join)
"""Messages that sound like a policy."""
FORMS: Final[tuple[Callable[[str], object], ...]] = (
    lambda words: {"error": {"message": words, "type": None, "code": None}},
    lambda words: {"error": {"message": words, "type": "invalid_request_error", "code": "400"}},
    lambda words: {"error": words},
    lambda words: {"code": words, "error": words},
    lambda words: {"error": {"code": words, "type": words, "message": "no"}},
    lambda words: {"detail": words},
    lambda words: [{"error": {"code": 400, "message": words, "status": "INVALID_ARGUMENT"}}],
    lambda words: {"error": {"message": f'litellm.BadRequestError: VertexAIException - {{"error": "{words}"}}'}},
    lambda words: {"error": {"message": "no", "input": {"code": "content_filter", "message": words}}},
    lambda words: words,
)
"""Bodies around a message."""
