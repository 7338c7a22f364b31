"""The pieces of an assistant's message that other APIs show: reasoning, text, refusal, pictures and tool calls."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from equipoise.guard.gateway.adapters.call_ids import with_extra
from equipoise.guard.gateway.adapters.reply_pictures import pictures_of
from equipoise.guard.gateway.dialects import CONTENT_KINDS, REASONING

PieceKind = Literal["reasoning", "text", "refusal"]


@dataclass
class ToolCall:
    """One tool call."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: Any = None
    """What the server wants back with the call."""

    def add(self, name: str, arguments: str) -> None:
        """Take a piece; some servers repeat the name with every piece."""
        self.name += name if name != self.name else ""
        self.arguments += arguments


@dataclass
class ToolCalls:
    """The tool calls of a reply, collected from their pieces."""

    _calls: list[ToolCall] = field(default_factory=list)
    """In the order in which they began."""
    _at: dict[int, ToolCall] = field(default_factory=dict)
    """The last call of each index."""
    _last: ToolCall = field(default_factory=ToolCall)
    """The call of the last piece."""

    def add(self, message: Mapping[str, Any]) -> None:
        """Take the tool calls of a message or of a delta, and the one of the API before tools."""
        calls = message.get("tool_calls")
        for number, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping):
                self._take(call.get("index"), number, str(call.get("id") or ""), call.get("function"))
                self._last.extra = call.get("extra_content") or self._last.extra
        if isinstance(message.get("function_call"), Mapping):
            self._take(_LEGACY, 0, "", message["function_call"])

    def _take(self, index: Any, number: int, identity: str, function: Any) -> None:
        """One piece of a call.

        Args:
            index: as the server numbers it; some servers give none, or the same for all calls.
            number: its place in this message.
            identity: the id of its call; empty where there is none.
            function: with name and arguments.
        """
        function = function if isinstance(function, Mapping) else {}
        name, arguments = str(function.get("name") or ""), _arguments(function.get("arguments"))
        if isinstance(index, int):
            call = self._at.get(index)
        elif identity:
            call = next((known for known in self._calls if known.id == identity), None)
        else:
            call = self._calls[-1] if self._calls and not number else None
        # Two calls may share an index (Gemini, Ollama). Another id begins another call; without ids a name does, once
        # the arguments before it are complete.
        other = call is not None and bool(identity and call.id and identity != call.id)
        if call is None or other or (name and arguments and not identity and _is_complete(call.arguments)):
            call = ToolCall()
            self._calls.append(call)
        if isinstance(index, int):
            self._at[index] = call
        call.id = call.id or identity
        call.add(name, arguments)
        self._last = call

    def all(self) -> list[ToolCall]:
        """The calls in order, each with an id: the client's result of a call names it."""
        for call in self._calls:
            call.id = with_extra(call.id or f"call_{uuid.uuid4().hex[:24]}", call.extra)
            call.extra = None
        return self._calls


_LEGACY: Final = -1
"""The index of a call in the field `function_call`."""


def _arguments(value: Any) -> str:
    """The arguments of a call as JSON; some servers send the object itself."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _is_complete(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def pieces_of(message: Mapping[str, Any]) -> Iterator[tuple[PieceKind, str]]:
    """The texts of a message or delta with their kinds; reasoning that stands in two fields comes once."""
    reasoning = next(filter(None, (_reasoning(message.get(name)) for name in REASONING)), "")
    if reasoning:
        yield "reasoning", reasoning
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


RETURNED: Final = ("reasoning_content", "reasoning")
"""Fields of reasoning that servers want back with the calls of tools that it led to (DeepSeek, Kimi, GLM, vLLM)."""


def reasoning_field(message: Mapping[str, Any]) -> str:
    """The name of the field that the reasoning of a message came in; empty where no server wants it back."""
    return next((name for name in RETURNED if isinstance(message.get(name), str) and message[name]), "")


def first_choices(chunk: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a chunk that are about the first choice; one without a number is the first."""
    choices = [choice for choice in chunk.get("choices") or () if isinstance(choice, Mapping)]
    return [choice for choice in choices if not isinstance(choice.get("index"), int) or choice["index"] == 0]


def count(counts: Any, name: str) -> int:
    """A count of tokens; 0 where a server gives none."""
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) else 0


class FirstChoiceStream(ABC):
    """Reads the chunks of a chat completion; a subclass writes what its API makes of them.

    Only the first choice is read: the APIs that are served this way have one.
    """

    def __init__(self) -> None:
        self._calls = ToolCalls()
        self._last: Mapping[str, Any] = {}
        """The choice of the last chunk with a finish reason."""
        self._usage: Any = None
        self._failed = False
        self._reasoning_field = ""
        """The field that reasoning came in."""
        self._pictures: set[int] = set()
        """Hashes of the addresses of pictures that were shown; some servers repeat them in the last chunk."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events for the first choice of a chunk; none behind an error."""
        if self._failed:
            return []
        events = self._begin(chunk)
        self._usage = chunk.get("usage") or self._usage
        for choice in first_choices(chunk):
            # Some servers know no deltas and stream messages; Perplexity repeats the message so far beside each.
            delta = (choice.get("delta") if "delta" in choice else choice.get("message")) or {}
            self._calls.add(delta)
            self._reasoning_field = reasoning_field(delta) or self._reasoning_field
            for kind, text in pieces_of(delta):
                events += self._say(kind, text)
            for address in pictures_of(delta):
                if hash(address) not in self._pictures:
                    self._pictures.add(hash(address))
                    events += self._show(address)
            self._last = choice if choice.get("finish_reason") else self._last
        return events

    @abstractmethod
    def _begin(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events before the first piece; none if they were sent."""

    @abstractmethod
    def _say(self, kind: PieceKind, text: str) -> list[bytes]:
        """The events of a piece of text."""

    @abstractmethod
    def _show(self, address: str) -> list[bytes]:
        """The events of a picture by its data URL or link."""


def _reasoning(value: Any) -> str:
    """The text of a field of reasoning: a text, or a list of objects that hold it (OpenRouter, LiteLLM)."""
    if isinstance(value, str):
        return value
    items = value if isinstance(value, list) else ()
    return "".join(text for item in items if isinstance(item, Mapping) for text in _texts(item))


def _texts(part: Mapping[str, Any]) -> Iterator[str]:
    for name in ("text", "thinking", "reasoning", "summary"):
        value = part.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (inner["text"] for inner in value if isinstance(inner, Mapping) and "text" in inner)
        if value is not None:
            return
