"""`NativeResponsesStream`: the upstream's own events of a response, and an end of ours where it was blocked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import named_event
from equipoise.guard.gateway.adapters.responses_stream import ResponsesStream
from equipoise.guard.gateway.carried_event import CARRIED

_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class NativeResponsesStream(ResponsesStream):
    """One stream.

    What was sent is remembered as far as its end needs it: a refusal ends the items that are open, and the whole
    response at the end has what the client saw and nothing else.
    """

    def __init__(self, body: Mapping[str, Any], frame: Any) -> None:
        super().__init__(frame)
        self._body = body
        self._items: dict[int, dict[str, Any]] = {}
        """The items that were sent, as far as they were."""
        self._open_items: set[int] = set()
        """Indices of the items whose end was not sent."""
        self._ended = False
        """Whether the end of the response was sent."""
        self._resumed = False
        """Whether what follows is ours."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The event that a chunk carries; of a chunk without one the events for its words, which are ours."""
        document = chunk.get(CARRIED)
        if document is None:
            return [*self._resume(), *super().chunk(chunk)]
        if self._resumed or self._failed:
            return []
        self._usage = chunk.get("usage") or self._usage
        self._remember(document)
        return [named_event(document)]

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error, and the response as failed."""
        return [*self._resume(), *super().error(error)]

    def end(self) -> list[bytes]:
        """Nothing behind the upstream's own end; otherwise ours."""
        if self._ended:
            return []
        return [*self._resume(), *super().end()]

    def _remember(self, document: Mapping[str, Any]) -> None:
        kind, index = document.get("type"), document.get("output_index")
        number = document.get("sequence_number")
        self._sequence = number + 1 if isinstance(number, int) else self._sequence + 1
        if isinstance(document.get("response"), Mapping):
            self._response = {**document["response"], "output": []}
            self._ended = self._ended or kind in _ENDS
        if not isinstance(index, int):
            return
        if isinstance(document.get("item"), Mapping):
            self._items[index] = dict(document["item"])
            (self._open_items.discard if kind == "response.output_item.done" else self._open_items.add)(index)
            return
        item = self._items.get(index)
        parts = item.get("content") if item is not None else None
        at = document.get("content_index")
        if item is None or not isinstance(at, int):
            return
        parts = list(parts) if isinstance(parts, list) else []
        if isinstance(document.get("part"), Mapping):
            parts = [*parts[:at], dict(document["part"]), *parts[at + 1 :]]
        elif at < len(parts) and isinstance(parts[at], dict):
            _extend(parts[at], document)
        item["content"] = parts

    def _resume(self) -> list[bytes]:
        """The ends of the items that are open; from here on the events are ours."""
        if self._resumed:
            return []
        self._resumed = True
        events = []
        for index in sorted(self._open_items):
            item = self._items[index] = {**self._items[index], "status": "incomplete"}
            events.append(self._event("response.output_item.done", output_index=index, item=item))
        self._output = [self._items[index] for index in sorted(self._items)]
        if self._response:
            self._identity = str(self._response.get("id")).removeprefix("resp_")
        return events


def _extend(part: dict[str, Any], document: Mapping[str, Any]) -> None:
    """Add the piece in an event to the part of a message that it belongs to."""
    kind, delta = str(document.get("type")), document.get("delta")
    name = "refusal" if part.get("type") == "refusal" else "text"
    if kind.endswith(".delta") and isinstance(delta, str) and isinstance(part.get(name), str):
        part[name] += delta
    elif kind.endswith(".done") and isinstance(document.get(name), str):
        part[name] = document[name]
    elif isinstance(document.get("annotation"), Mapping):
        known = part.get("annotations")
        part["annotations"] = [*(known if isinstance(known, list) else []), document["annotation"]]
