"""The pieces of an assistant's message that other APIs show: reasoning, text, refusal and tool calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from equipoise.guard.gateway.dialects import CONTENT_KINDS

PieceKind = Literal["reasoning", "text", "refusal"]


@dataclass
class ToolCall:
    """One tool call."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass
class ToolCalls:
    """The tool calls of a reply, collected from their pieces."""

    by_index: dict[int, ToolCall] = field(default_factory=dict)

    def add(self, message: Mapping[str, Any]) -> None:
        """Take the tool calls of a message or of a delta."""
        for number, call in enumerate(message.get("tool_calls") or ()):
            if not isinstance(call, Mapping):
                continue
            index = call.get("index")
            whole = self.by_index.setdefault(index if isinstance(index, int) else number, ToolCall())
            function = call.get("function")
            function = function if isinstance(function, Mapping) else {}
            whole.id = whole.id or str(call.get("id") or "")
            whole.name += str(function.get("name") or "")
            whole.arguments += str(function.get("arguments") or "")

    def all(self) -> list[ToolCall]:
        """The calls in order."""
        return [call for _, call in sorted(self.by_index.items())]


def pieces_of(message: Mapping[str, Any]) -> Iterator[tuple[PieceKind, str]]:
    """The texts of a message or delta with their kinds; reasoning that stands in two fields comes once."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(message.get(name), str) and message[name]:
            yield "reasoning", message[name]
            break
    content = message.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str) and part:
            yield "text", part
        elif isinstance(part, Mapping):
            kind = CONTENT_KINDS.get(str(part.get("type")))
            text = "".join(_texts(part))
            if text and kind in ("text", "reasoning"):
                yield ("text" if kind == "text" else "reasoning"), text
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        yield "refusal", message["refusal"]


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    for name in ("text", "thinking", "reasoning"):
        value = part.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (inner["text"] for inner in value if isinstance(inner, Mapping) and "text" in inner)
        if value is not None:
            return
