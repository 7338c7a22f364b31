"""The items of a response of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.guard.gateway.adapters.message_pieces import ToolCall


def content_part(kind: str, text: str, logprobs: Sequence[Any] = ()) -> dict[str, Any]:
    """A part of an output message: text, with the log-probabilities of its tokens if there are any, or refusal."""
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def token_logprobs(choice: Mapping[str, Any]) -> list[Any]:
    """The log-probabilities of the tokens of a choice, or of a chunk of it; a chat has them in the same form."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return tokens if isinstance(tokens, list) else []


def message_item(identity: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of a response."""
    return {"id": f"msg_{identity}", "type": "message", "role": "assistant", "status": "completed", "content": parts}


def reasoning_item(identity: str, text: str) -> dict[str, Any]:
    """The reasoning of a response."""
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{identity}", "type": "reasoning", "summary": [], "content": content, "status": "completed"}


def call_item(call: ToolCall) -> dict[str, Any]:
    """A function call of a response."""
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def ending(finish: Any, output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Status and details of a response by the finish reason of a choice.

    A refusal is complete, as OpenAI's models' own refusals are: clients raise an error for a response that is not, and
    nobody would see its words.
    """
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    if finish == "content_filter" and any(part["type"] == "refusal" for part in parts):
        return {"status": "completed"}
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(str(finish))
    if reason is None:
        return {"status": "completed"}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def token_counts(completion: Mapping[str, Any]) -> dict[str, Any] | None:
    """Token counts under this API's names."""
    usage = completion.get("usage")
    if not isinstance(usage, Mapping):
        return None
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoned = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": usage.get("prompt_tokens") or 0,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage.get("completion_tokens") or 0,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": usage.get("total_tokens") or 0,
    }
