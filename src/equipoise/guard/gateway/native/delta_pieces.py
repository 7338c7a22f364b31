"""`DeltaPieces`: the words of an event of another API, as the delta of a chat's chunk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.guard.gateway.blobs import read
from equipoise.guard.gateway.carried_event import CARRIED, CarriedEvent, UnreadBytes
from equipoise.guard.gateway.content_parts import SERVER_TOOL
from equipoise.guard.gateway.streaming.events import UpstreamError

LONG_BYTES: Final = 500
"""Characters from which on bytes are taken out of a text before it is judged."""
_TYPE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass
class DeltaPieces:
    """The words of one event, or of a whole reply."""

    _fields: dict[str, list[str]] = field(default_factory=dict)
    _calls: dict[int, list[str]] = field(default_factory=dict)
    _images: list[dict[str, Any]] = field(default_factory=list)
    _unread: set[str] = field(default_factory=set)
    """Names of fields that stand for bytes without words."""

    def add_words(self, name: str, text: str) -> None:
        """Add to a field of a message: `content`, `reasoning_content` or `refusal`."""
        if text:
            self._fields.setdefault(name, []).append(text)

    def add_call(self, index: int, text: str) -> None:
        """Add to a call of a tool that the client runs: nothing of it is sent before the last check."""
        # Also a piece without words begins a call.
        self._calls.setdefault(index, []).append(text)

    def add_tool_text(self, index: int, text: str) -> None:
        """Add to what a tool of the server's was asked, or answered."""
        name = f"{SERVER_TOOL}{index}"
        if len(text) >= LONG_BYTES:
            # Encrypted results are long, and each check reads the whole text again: their bytes are taken out once.
            content = read(text)
            if content.blobs and all(blob.kind == "opaque" for blob in content.blobs):
                self._unread.add(f"{name}.bytes")
                text = content.words
        self.add_words(name, text)

    def add_picture(self, address: str) -> None:
        """Add a picture by its data URL or link."""
        self._images.append({"type": "image_url", "image_url": {"url": address}})

    def add_sound(self, sound: str) -> None:
        """Add sound, which nobody here can check."""
        self._fields.setdefault("audio", []).append(sound)

    @property
    def delta(self) -> dict[str, Any]:
        """The delta: a piece of a text as it is, several texts of a tool one a line."""
        delta: dict[str, Any] = {}
        for name, texts in self._fields.items():
            delta[name] = ("\n" if name.startswith(SERVER_TOOL) else "").join(texts)
        if self._calls:
            delta["tool_calls"] = [
                {"index": index, "function": {"arguments": "\n".join(filter(None, texts))}}
                for index, texts in self._calls.items()
            ]
        delta |= {name: UnreadBytes() for name in sorted(self._unread)}
        return delta | ({"images": self._images} if self._images else {})


def chunk_of(
    document: dict[str, Any], delta: Mapping[str, Any], finish: str | None, usage: Mapping[str, int] | None
) -> dict[str, Any]:
    """The chunk of a chat that an event stands for.

    Args:
        document: the event, which the chunk carries.
        delta: its words.
        finish: the finish reason, if it is the end of the reply.
        usage: token counts of a chat.
    """
    chunk = {"choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish}], CARRIED: CarriedEvent(document)}
    return chunk | ({"usage": dict(usage)} if usage else {})


def type_of(document: Mapping[str, Any]) -> str:
    """The type of an event.

    Raises:
        UpstreamError: it has none, so no client could read it.
    """
    kind = document.get("type")
    if not isinstance(kind, str) or _TYPE.fullmatch(kind) is None:
        raise UpstreamError("the upstream sent an event that has no form of this API")
    return kind


def index_of(document: Mapping[str, Any], name: str) -> int:
    """The number of the item or block that an event is about; -1 where it names none."""
    value = document.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1
