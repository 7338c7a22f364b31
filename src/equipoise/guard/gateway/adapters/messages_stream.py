"""`MessagesStream`: chunks of a chat completion as events of Anthropic's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import named_event
from equipoise.guard.gateway.adapters.message_pieces import FirstChoiceStream, PieceKind, count
from equipoise.guard.gateway.adapters.reply_pictures import picture_block

_STOPS: Final = {"length": "max_tokens", "model_length": "max_tokens", "content_filter": "refusal"} | {
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}


_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(status: Any, code: Any, given: Any = None) -> str:
    """Anthropic's type of an error.

    Args:
        status: of HTTP; None where it has none.
        code: for programs.
        given: its type; kept if it is one of Anthropic's.
    """
    if given in _TYPES.values():
        return str(given)
    if code == "overloaded":
        return "overloaded_error"
    client = isinstance(status, int) and 400 <= status < 500
    return _TYPES.get(status, "invalid_request_error" if client else "api_error")


def ending(choice: Mapping[str, Any], body: Mapping[str, Any], *, calls: bool) -> dict[str, Any]:
    """Why a reply ended: Anthropic's reason, and the stop sequence if it was one.

    Args:
        choice: with its finish reason; vLLM and SGLang name the sequence beside it.
        body: the request, whose sequences are the ones that count.
        calls: whether the reply calls tools: some servers say `stop` even then, and a client would not run them.
    """
    finish = str(choice.get("finish_reason"))
    sequences = body.get("stop_sequences")
    given = [choice.get(name) for name in ("stop_reason", "matched_stop")]
    sequence = next((name for name in given if isinstance(name, str) and name in (sequences or ())), None)
    if finish in _STOPS:
        reason = _STOPS[finish]
    else:
        reason = "tool_use" if calls else "end_turn" if sequence is None else "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": sequence if reason == "stop_sequence" else None}


def tokens(usage: Any) -> dict[str, Any]:
    """Token counts under Anthropic's names; there `input_tokens` leaves out those that came from a cache."""
    usage = usage if isinstance(usage, Mapping) else {}
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens")
    counts = {"input_tokens": max(0, count(usage, "prompt_tokens") - cached)}
    counts["output_tokens"] = count(usage, "completion_tokens")
    return counts | ({"cache_read_input_tokens": cached} if cached else {})


class MessagesStream(FirstChoiceStream):
    """One stream.

    Args:
        body: the request.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__()
        self._body = body
        self._begun = False
        self._index = -1
        self._kind = ""
        """The kind of the open block; empty if none is open."""

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error; nothing follows it."""
        self._failed = True
        code = error.get("code")
        kind = error_type(code if isinstance(code, int) else None, code, error.get("type"))
        inner = {"type": kind, "message": error.get("message"), "code": code}
        return [named_event({"type": "error", "error": inner})]

    def end(self) -> list[bytes]:
        """The tool calls, the reason for the end, and the end."""
        if self._failed:
            return []
        events = [*self._begin({}), *self._close()]
        # Tool calls come last and whole. The gateway has held them back until the final check, so there is nothing to
        # stream.
        for call in self._calls.all():
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": call.arguments}
            events += [*self._open("tool_use", block), self._delta(delta), *self._close()]
        end = ending(self._last, self._body, calls=bool(self._calls.all()))
        events.append(named_event({"type": "message_delta", "delta": end, "usage": tokens(self._usage)}))
        return [*events, named_event({"type": "message_stop"})]

    def _begin(self, chunk: Mapping[str, Any]) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        message: dict[str, Any] = {
            "id": str(chunk.get("id") or "msg").replace("chatcmpl", "msg"),
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model") or str(self._body.get("model", "")),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": tokens(None),
        }
        return [named_event({"type": "message_start", "message": message})]

    def _say(self, kind: PieceKind, text: str) -> list[bytes]:
        block = "thinking" if kind == "reasoning" else "text"
        events: list[bytes] = []
        # Anthropic's streams have one open block at a time: a text after reasoning closes the block of the reasoning.
        if block != self._kind:
            start = {"type": block, block: ""} | ({"signature": ""} if block == "thinking" else {})
            events += [*self._close(), *self._open(block, start)]
        return [*events, self._delta({"type": f"{block}_delta", block: text})]

    def _show(self, address: str) -> list[bytes]:
        # Whole in the block's start: this API has no pieces of pictures.
        return [*self._close(), *self._open("image", picture_block(address)), *self._close()]

    def _open(self, kind: str, block: dict[str, Any]) -> list[bytes]:
        self._index += 1
        self._kind = kind
        return [named_event({"type": "content_block_start", "index": self._index, "content_block": block})]

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> list[bytes]:
        if not self._kind:
            return []
        is_signed = self._kind == "thinking" and self._reasoning_field
        # Clients send the signature back with the thinking: it says in which field the upstream wants it.
        signature = [self._delta({"type": "signature_delta", "signature": self._reasoning_field})] if is_signed else []
        self._kind = ""
        return [*signature, named_event({"type": "content_block_stop", "index": self._index})]
