"""What came back, in which of its forms, read from inspect's output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inspect_ai.model import ContentReasoning, ContentText, ModelOutput

from equipoise.audit.engine.failures import NoReplyError, names_policy
from equipoise.types import FinishReason, Wire

FINISHES: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "tool_calls": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
}
THOUGHT: Final = re.compile(r"^\s*(?:<think(?:ing)?>)?(.*?)</think(?:ing)?>\s*", re.DOTALL)
"""A reasoning trace before the reply; templates that open it themselves leave only its end."""
THINKING: Final = re.compile(r"^\s*<think(?:ing)?>(.*)$", re.DOTALL)
"""A reasoning trace that the length limit cut off."""
FILTERED: Final = re.compile(r"content_?filter|safety|prohibited|blocklist|policy", re.IGNORECASE)
"""Finish reasons of servers that spell `content_filter` in their own way."""


@dataclass(frozen=True)
class ReceivedReply:
    """A reply, apart from who was asked."""

    text: str
    """What the user reads."""
    finish: FinishReason
    """How it ended."""
    wire: Wire
    """In which form it arrived."""
    by: str = "model"
    """Who spoke last."""
    reasoning: str = ""
    """The trace before it."""
    detail: str = ""
    """What the server said beside it, or what countermeasures did before it."""


def read_reply(output: ModelOutput, call: Mapping[str, Any] | None = None, failed: bool = False) -> ReceivedReply:
    """The reply in an output of inspect's.

    Args:
        output: what a provider made of the response.
        call: the raw response, where inspect kept it.
        failed: whether that response was an error, which providers turn into an output.

    Raises:
        NoReplyError: there is none: no choices, an error that names no policy, a reply that was cut off.
    """
    if not output.choices:
        raise NoReplyError(output.error or "the response holds no choices")
    text, reasoning, refused = _content(output)
    told = output.metadata or {}
    trail = "\n".join(map(str, told.get("trail") or ()))
    if failed:
        if output.stop_reason == "content_filter" and names_policy(call or {}, text):
            return ReceivedReply("", "content_filter", "policy_error", by="server", detail=text)
        raise NoReplyError(f"an error instead of a reply: {' '.join(text.split())[:240]}", again=False)
    finish = FINISHES.get(output.stop_reason) or _own_spelling(call, text)
    if refused:
        return ReceivedReply(text, finish, "refusal_field", reasoning=reasoning)
    if finish == "content_filter":
        form: Wire = told.get("wire") or "content_filter"
        form = form if form != "text" else "content_filter"
        return ReceivedReply(text, finish, form, told.get("by", "model"), reasoning, trail)
    return ReceivedReply(text, finish, told.get("wire", "text"), told.get("by", "model"), reasoning, trail)


def _content(output: ModelOutput) -> tuple[str, str, bool]:
    """Text, reasoning, and whether the text came in the field for refusals."""
    content = output.message.content
    if isinstance(content, str):
        text, thoughts, refused = content, "", False
    else:
        texts = [part for part in content if isinstance(part, ContentText)]
        text = "\n".join(part.text for part in texts)
        refused = any(part.refusal for part in texts)
        thoughts = "\n".join(part.reasoning for part in content if isinstance(part, ContentReasoning))
    for pattern in (THOUGHT, THINKING):
        found = pattern.match(text)
        if found and ("</think" in text or output.stop_reason != "stop"):
            thoughts, text = "\n".join(filter(None, [thoughts, found[1].strip()])), text[found.end() :]
            break
    return text, thoughts, refused


def _own_spelling(call: Mapping[str, Any] | None, text: str) -> FinishReason:
    """A finish reason that inspect does not know."""
    reason = _raw_finish(call)
    if isinstance(reason, str):
        if FILTERED.search(reason):
            return "content_filter"
        if reason.lower() in ("error", "abort", "cancelled"):
            raise NoReplyError(f"the response ended with finish reason {reason!r}")
        return "stop"
    if not text.strip() or (call is not None and "choices" in call):
        raise NoReplyError("the response has no finish reason: it was cut off")
    return "stop"


def _raw_finish(call: Mapping[str, Any] | None) -> Any:
    try:
        return call["choices"][0]["finish_reason"] if call else None
    except (KeyError, IndexError, TypeError):
        return None
