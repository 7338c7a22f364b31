"""`NativeMessagesStream`: the upstream's own events of a message, and an end of ours where it was blocked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.guard.gateway.adapters.adapter import named_event
from equipoise.guard.gateway.adapters.messages_stream import MessagesStream
from equipoise.guard.gateway.carried_event import CARRIED


class NativeMessagesStream(MessagesStream):
    """One stream."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(body)
        self._open_block: int | None = None
        """Index of the block whose end was not sent."""
        self._ended = False
        """Whether the end of the message was sent."""
        self._resumed = False
        """Whether what follows is ours."""
        self._reason_sent = False
        """Whether the reason for the end was sent."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The event that a chunk carries; of a chunk without one the events for its words, which are ours."""
        document = chunk.get(CARRIED)
        if document is None:
            return [*self._resume(), *super().chunk(chunk)]
        if self._resumed or self._failed:
            return []
        self._usage = chunk.get("usage") or self._usage
        kind, index = document["type"], document.get("index")
        if kind == "content_block_start" and isinstance(index, int):
            self._open_block = index
            self._index = max(self._index, index)
        elif kind == "content_block_stop":
            self._open_block = None
        self._begun = self._begun or kind == "message_start"
        self._reason_sent = self._reason_sent or kind == "message_delta"
        self._ended = self._ended or kind == "message_stop"
        return [named_event(document)]

    def end(self) -> list[bytes]:
        """Nothing behind the upstream's own end; otherwise ours."""
        if self._ended or self._failed:
            return []
        if self._reason_sent and not self._resumed:
            return [named_event({"type": "message_stop"})]
        return [*self._resume(), *super().end()]

    def _resume(self) -> list[bytes]:
        """The end of the block that is open; from here on the events are ours."""
        if self._resumed:
            return []
        self._resumed = True
        if self._open_block is None:
            return []
        return [named_event({"type": "content_block_stop", "index": self._open_block})]
