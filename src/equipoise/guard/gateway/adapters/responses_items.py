"""The items of a response of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise.guard.gateway.adapters.message_pieces import ToolCall, count


def content_part(kind: str, text: str, logprobs: Sequence[Any] = (), annotations: Sequence[Any] = ()) -> dict[str, Any]:
    """A part of an output message: a refusal, or text with the log-probabilities of its tokens and its sources."""
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": list(logprobs)}


def annotations_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sources of a message or delta: this API has in one object what a chat nests under the name of its type."""
    annotations = message.get("annotations")
    return [
        {"start_index": 0, "end_index": 0, "title": "", **item["url_citation"], "type": "url_citation"}
        for item in (annotations if isinstance(annotations, list) else ())
        if isinstance(item, Mapping) and isinstance(item.get("url_citation"), Mapping)
    ]


def token_logprobs(choice: Mapping[str, Any]) -> list[Any]:
    """The log-probabilities of the tokens of a choice, or of a chunk of it; a chat has them in the same form."""
    logprobs = choice.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return tokens if isinstance(tokens, list) else []


def message_item(identity: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of a response."""
    return {"id": f"msg_{identity}", "type": "message", "role": "assistant", "status": "completed", "content": parts}


def reasoning_item(identity: str, text: str, source: str = "") -> dict[str, Any]:
    """The reasoning of a response.

    Args:
        identity: of the reply.
        text: of the reasoning.
        source: the field that it came in, if the upstream may want it back: clients return `encrypted_content`.
    """
    content = [{"type": "reasoning_text", "text": text}]
    item = {"id": f"rs_{identity}", "type": "reasoning", "summary": [], "content": content, "status": "completed"}
    return item | ({"encrypted_content": source} if source else {})


def call_item(call: ToolCall) -> dict[str, Any]:
    """A function call of a response."""
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments or "{}",
        "status": "completed",
    }


_CUT: Final = {"length": "max_output_tokens", "model_length": "max_output_tokens", "content_filter": "content_filter"}


def ending(finish: Any, output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Status and details of a response by the finish reason of a choice.

    A refusal is complete, as OpenAI's models' own refusals are: clients raise an error for a response that is not, and
    nobody would see its words.
    """
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    if finish == "content_filter" and any(part["type"] == "refusal" for part in parts):
        return {"status": "completed"}
    reason = _CUT.get(str(finish))
    if reason is None:
        return {"status": "completed"}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def token_counts(completion: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts under this API's names, zeros where the upstream gives none."""
    usage = completion.get("usage")
    if not isinstance(usage, Mapping):
        # Typed clients require counts at the end of a stream; a server that counts nothing gives none to pass on.
        usage = {}
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens")
    return {
        "input_tokens": count(usage, "prompt_tokens"),
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": count(usage, "completion_tokens"),
        "output_tokens_details": {
            "reasoning_tokens": count(usage.get("completion_tokens_details"), "reasoning_tokens")
        },
        "total_tokens": count(usage, "total_tokens"),
    }
