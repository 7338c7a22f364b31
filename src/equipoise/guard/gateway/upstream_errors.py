"""`ReportedError`: an error that an upstream reports, in whichever of the known forms it does.

| form | sent by |
|---|---|
| `{"error": {"message", "type", "param", "code"}}` | OpenAI, Azure, vLLM since 0.10, SGLang, OpenRouter, Groq |
| `{"error": "text"}` | Ollama, Text Generation Inference |
| `{"object": "error", "message", "type", "param", "code"}` | vLLM before 0.10.1, Mistral |
| `{"detail": "text"}`, `{"detail": [{"loc", "msg"}]}` | FastAPI |
| `{"type": "error", "error": {"type", "message"}}` | Anthropic |
| `{"message": "text"}`, `{"Message": "text"}` | AWS Bedrock, gateways |
| `[{"error": {"message", "status", "code"}}]` | Google |
| `{"errors": [{"message"}]}` | Cloudflare |
| `{"error", "error_description"}`, `{"title", "status", "detail"}` | OAuth, RFC 9457 (NIM) |
| `{"fault": {"faultstring"}}` | Apigee |
| `{"base_resp": {"status_code", "status_msg"}}` | MiniMax |
| `{"text", "error_code"}` | FastChat |
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

LONGEST_MESSAGE: Final = 2000
"""Characters of a message that are kept."""
_MESSAGES: Final = (
    *("message", "msg", "Message", "errorMessage", "error_message", "error_description", "detail", "error"),
    *("errors", "fault", "faultstring", "base_resp", "status_msg", "description", "title", "reason"),
)
"""Fields that hold the message, or an object that does, the likeliest first."""
_CODES: Final = ("code", "error_code", "errorCode", "statusCode", "status_code", "status")
_MARKS: Final = (
    *("error", "errors", "error_code", "errorCode", "error_message", "errorMessage", "error_description"),
    *("fault", "faultstring", "base_resp"),
)
"""Fields that no other document has than one of an error."""
_FAILED: Final = re.compile("error|exception|fail|fault|denied|exceeded|exhausted|invalid", re.IGNORECASE)
"""In the name of a kind of error."""
_DELAY: Final = re.compile(r"\d{1,6}(\.\d{1,9})?s")
_DEPTH: Final = 4


@dataclass(frozen=True)
class ReportedError:
    """One error."""

    message: str
    """In the upstream's words."""
    type: str | None = None
    """The upstream's name for the kind of error."""
    code: str | int | None = None
    """For programs."""
    param: str | None = None
    """The field of the request that is to blame."""
    retry_after: float | None = None
    """Seconds after which a retry makes sense, where the body says so (Google)."""

    @property
    def words(self) -> str:
        """Everything in it that a client may show: the message, and what else is more than a name."""
        names = [name for name in (self.type, self.code, self.param) if isinstance(name, str) and len(name.split()) > 1]
        return "\n".join([self.message, *names])

    @property
    def headers(self) -> dict[str, str]:
        """The header that tells clients when to retry; clients read whole seconds."""
        return {} if self.retry_after is None else {"retry-after": str(math.ceil(self.retry_after))}

    @property
    def status(self) -> int | None:
        """The HTTP status that the code stands for, if it is one."""
        code = str(self.code)
        return int(code) if code.isdecimal() and len(code) == 3 and code[0] in "45" else None


def reported_error(document: Any) -> ReportedError | None:
    """The error in a JSON document; None if it has none of the known forms."""
    error = _error(document, _DEPTH)
    return None if error is None else replace(error, retry_after=_retry_after(document, _DEPTH))


def is_error(document: Mapping[str, Any]) -> bool:
    """Whether a document that came with status 200 is an error and not a completion or a chunk of one."""
    if document.get("error") or document.get("object") == "error" or document.get("type") == "error":
        return True
    return document.get("choices") is None and reported_error(document) is not None


def is_error_event(document: Mapping[str, Any]) -> bool:
    """The same of an event: one that says what else it is, such as how far an answer is, must be marked as an error.

    Args:
        document: of an event within a stream.
    """
    if not is_error(document):
        return False
    names = [document.get(name) for name in ("type", "object", "status")]
    kinds = [name for name in names if isinstance(name, str) and name]
    is_marked = any(document.get(name) for name in _MARKS) or any(_is_failure(document, name) for name in _CODES)
    return is_marked or not kinds or any(_FAILED.search(kind) for kind in kinds)


def _is_failure(document: Mapping[str, Any], name: str) -> bool:
    code = document.get(name)
    return code >= 400 if isinstance(code, int) else isinstance(code, str) and code != "" and name != "status"


def error_of_choice(choice: Any) -> ReportedError | None:
    """The error that a server reports within a choice, as OpenRouter does where its provider fails."""
    failed = isinstance(choice, Mapping) and choice.get("finish_reason") == "error"
    return reported_error(choice.get("error")) if failed else None


def _error(value: Any, depth: int) -> ReportedError | None:
    if isinstance(value, str):
        return ReportedError(value[:LONGEST_MESSAGE]) if value.strip() else None
    if isinstance(value, list):
        errors = [error for item in value[:8] if depth and (error := _error(item, depth - 1)) is not None]
        if not errors:
            return None
        first = errors[0]
        message = "; ".join(dict.fromkeys(error.message for error in errors))[:LONGEST_MESSAGE]
        return ReportedError(message, first.type, first.code, first.param)
    if not isinstance(value, Mapping) or not depth:
        return None
    inner = None
    if value.get("status_code") == 0:
        return None
    for name in (*_MESSAGES, *(["text"] if "error_code" in value else [])):
        if (inner := _error(value.get(name), depth - 1)) is not None:
            break
    if inner is None:
        return None
    kind = _text(value, "type") or _text(value, "error_type") or _text(value, "status")
    codes = [value.get(name) for name in _CODES if name != "status" or isinstance(value.get(name), int)]
    code = next((code for code in codes if isinstance(code, str | int) and code != ""), None)
    param = _text(value, "param") or _location(value.get("loc"))
    return ReportedError(
        inner.message,
        inner.type or (kind if kind != "error" else None),
        inner.code if inner.code is not None else code,
        inner.param or param,
    )


def _text(value: Mapping[str, Any], name: str) -> str | None:
    text = value.get(name)
    return text[:200] if isinstance(text, str) and text else None


def _retry_after(value: Any, depth: int) -> float | None:
    """The delay in an error: `retryDelay` among Google's details, such as `37s`, or `retry_after` in seconds."""
    items: list[Any] = []
    if isinstance(value, Mapping):
        delay, seconds = value.get("retryDelay"), value.get("retry_after")
        if isinstance(delay, str) and _DELAY.fullmatch(delay):
            return float(delay[:-1])
        if isinstance(seconds, int | float) and 0 <= seconds < 1e7:
            return float(seconds)
        items = [value.get(name) for name in ("error", "details")]
    elif isinstance(value, list):
        items = value[:8]
    return next((delay for item in items if depth and (delay := _retry_after(item, depth - 1)) is not None), None)


def _location(value: Any) -> str | None:
    """FastAPI's path of a field, such as `["body", "messages", 0]`, without the first step."""
    if not isinstance(value, list) or len(value) < 2:
        return None
    return ".".join(str(step) for step in value[1:])[:200]
