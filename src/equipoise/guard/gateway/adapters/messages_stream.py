"""`MessagesStream`: chunks of a chat completion as events of Anthropic's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import named_event
from equipoise.guard.gateway.adapters.message_pieces import FirstChoiceStream, PieceKind

_STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use"} | {
    "content_filter": "refusal"
}


def stop_reason(finish: Any) -> str:
    """Anthropic's name of a finish reason."""
    return _STOPS.get(str(finish), "end_turn")


def tokens(usage: Any) -> dict[str, Any]:
    """Token counts under Anthropic's names."""
    usage = usage if isinstance(usage, Mapping) else {}
    return {"input_tokens": usage.get("prompt_tokens") or 0, "output_tokens": usage.get("completion_tokens") or 0}


class MessagesStream(FirstChoiceStream):
    """One stream.

    Args:
        model: that the client asked for.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model
        self._begun = False
        self._index = -1
        self._kind = ""
        """The kind of the open block; empty if none is open."""

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error; nothing follows it."""
        self._failed = True
        inner = {"type": error.get("type") or "api_error", "message": error.get("message"), "code": error.get("code")}
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
        end: dict[str, Any] = {"stop_reason": stop_reason(self._finish), "stop_sequence": None}
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
            "model": chunk.get("model") or self._model,
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

    def _open(self, kind: str, block: dict[str, Any]) -> list[bytes]:
        self._index += 1
        self._kind = kind
        return [named_event({"type": "content_block_start", "index": self._index, "content_block": block})]

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return named_event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self) -> list[bytes]:
        if not self._kind:
            return []
        self._kind = ""
        return [named_event({"type": "content_block_stop", "index": self._index})]
