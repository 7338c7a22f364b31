"""The pieces of an assistant's message that other APIs show: reasoning, text, refusal and tool calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class FirstChoiceStream(ABC):
    """Reads the chunks of a chat completion; a subclass writes what its API makes of them.

    Only the first choice is read: the APIs that are served this way have one.
    """

    def __init__(self) -> None:
        self._calls = ToolCalls()
        self._finish: str | None = None
        self._usage: Any = None
        self._failed = False

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events for the first choice of a chunk."""
        events = self._begin(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            self._calls.add(delta)
            for kind, text in pieces_of(delta):
                events += self._say(kind, text)
            self._finish = choice.get("finish_reason") or self._finish
        return events

    @abstractmethod
    def _begin(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events before the first piece; none if they were sent."""

    @abstractmethod
    def _say(self, kind: PieceKind, text: str) -> list[bytes]:
        """The events of a piece of text."""


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    for name in ("text", "thinking", "reasoning"):
        value = part.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (inner["text"] for inner in value if isinstance(inner, Mapping) and "text" in inner)
        if value is not None:
            return
