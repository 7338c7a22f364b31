"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`, whatever went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import EquipoiseError
from equipoise.guard.decision import CheckFailure

if TYPE_CHECKING:
    from starlette.responses import Response

_KINDS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


class RequestProblem(EquipoiseError):
    """A request that ends without a reply.

    Args:
        status: of HTTP.
        message: for the client.
        code: for programs.
        headers: of the answer.
        param: the part of the request that is to blame.
        kind: the type of the error; None is OpenAI's for the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | int,
        headers: Mapping[str, str] | None = None,
        param: str | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.param = param
        self.reported: str | None = None
        """The words of an error that the upstream reported; None of an error of ours."""
        self.kind = kind or _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The answer to the client."""
        return as_json(self.body(), self.status, {**self.headers, **(headers or {})})


def unchecked_problem(failure: CheckFailure, what: str) -> RequestProblem:
    """The error for a failed check, with the time after which a retry makes sense.

    Args:
        failure: the cause.
        what: the subject of the check, such as `reply`.
    """
    if failure == "unreadable":
        # A retry would fail in the same way; OpenAI's clients know this header.
        headers = {"x-should-retry": "false"}
        return RequestProblem(502, f"a part of the {what} cannot be looked at", "unsupported_content", headers)
    status, why, code, seconds = _UNCHECKED[failure]
    return RequestProblem(status, f"the {what} could not be checked: {why}", code, {"retry-after": str(seconds)})


_UNCHECKED: Final[Mapping[CheckFailure, tuple[int, str, str, int]]] = {
    "overloaded": (503, "too many checks wait already; try again later", "overloaded", 2),
    "crowded": (429, "too many checks of this client wait already; try again later", "too_many_at_once", 1),
    "hanging": (503, "checks give no answer; try again later", "check_unavailable", 10),
    "late": (504, "the check took too long; try again later", "check_timeout", 2),
    "failed": (503, "the check failed", "check_failed", 2),
}


def unrecorded() -> RequestProblem:
    """The error if the entry of an answer could not be written."""
    return RequestProblem(503, "the answer could not be recorded", "record_failed", {"retry-after": "5"})


def as_json(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; ASCII only, since a reply may hold half a surrogate pair, which UTF-8 cannot."""
    from starlette.responses import Response

    content = json.dumps(document, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    return Response(content, status, dict(headers or {}), "application/json")


def completion(request: str, model: str | None, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """A chat completion that the gateway makes by itself; no token was spent on it.

    Args:
        request: its id.
        model: that was asked for.
        choices: its choices.
    """
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {
        "id": request,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model or "",
        "choices": choices,
        "usage": usage,
    }
