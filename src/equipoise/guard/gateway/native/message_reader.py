"""`MessageReader`: all words of Anthropic's messages, whole or event by event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.message_pieces import count
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.native.delta_pieces import DeltaPieces, chunk_of, index_of, type_of
from equipoise.guard.gateway.native.text_walk import texts_in

_SPOKEN: Final[Mapping[str, str]] = {"text": "content", "thinking": "reasoning_content"}
"""Blocks that are read as running text, with the field of a message that they belong to."""
_SERVER_BLOCKS: Final = frozenset(
    {"server_tool_use", "mcp_tool_use", "redacted_thinking", "container_upload", "compaction", "fallback"}
)
"""Blocks that no client runs, beside texts and results. What is not among them waits for the end as a call does."""
_STOPS: Final[Mapping[str, str]] = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


class MessageReader:
    """Reads one reply.

    Args:
        body: the request; a message repeats nothing of it.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self._kinds: dict[int, str] = {}
        """The type of each block."""
        self._usage: dict[str, Any] = {}

    def completion(self, document: dict[str, Any]) -> dict[str, Any]:
        """A whole message as the completion of a chat that carries it.

        Raises:
            RequestProblem: it is no message.
        """
        if not isinstance(document.get("content"), list):
            raise RequestProblem(502, "the upstream sent something that is no message", "upstream_invalid")
        pieces = DeltaPieces()
        self._message(document, pieces)
        finish = _STOPS.get(str(document.get("stop_reason")), "stop")
        chunk = chunk_of(document, {}, None, self._counts(document.get("usage")))
        choice = {"index": 0, "message": {"role": "assistant", **pieces.delta}, "finish_reason": finish}
        return {"id": document.get("id"), "model": document.get("model"), **chunk, "choices": [choice]}

    def chunk(self, document: dict[str, Any]) -> dict[str, Any]:
        """An event as the chunk of a chat that carries it.

        Raises:
            UpstreamError: it has no form of this API.
        """
        kind = type_of(document)
        pieces, usage, finish = DeltaPieces(), None, None
        index = index_of(document, "index")
        delta = document.get("delta")
        rest = document
        if kind == "message_start" and isinstance(document.get("message"), Mapping):
            self._message(document["message"], pieces)
            usage = self._counts(document["message"].get("usage"))
            rest = {name: value for name, value in document.items() if name != "message"}
        elif kind == "content_block_start":
            self._block(index, document.get("content_block"), pieces)
            rest = {name: value for name, value in document.items() if name != "content_block"}
        elif kind == "content_block_delta" and isinstance(delta, Mapping):
            self._piece(index, delta, pieces)
            rest = {name: value for name, value in document.items() if name != "delta"}
        elif kind == "message_delta":
            usage = self._counts(document.get("usage"))
            reason = delta.get("stop_reason") if isinstance(delta, Mapping) else None
            finish = None if reason is None else _STOPS.get(str(reason), "stop")
        elif kind == "message_stop":
            finish = "stop"
        self._tell(index, rest, pieces)
        return chunk_of(document, pieces.delta, finish, usage)

    def _message(self, message: Mapping[str, Any], pieces: DeltaPieces) -> None:
        content = message.get("content")
        for index, block in enumerate(content if isinstance(content, list) else ()):
            self._block(index, block, pieces)
        self._tell(-1, {name: value for name, value in message.items() if name != "content"}, pieces)

    def _block(self, index: int, block: Any, pieces: DeltaPieces) -> None:
        """A whole block, or the beginning of one whose pieces follow."""
        kind = str(block.get("type")) if isinstance(block, Mapping) else ""
        self._kinds[index] = kind
        rest = dict(block) if isinstance(block, Mapping) else {"block": block}
        if self._is_run_by_client(index):
            given = rest.pop("input", None)
            # Each of its fields, by whatever name, is an argument.
            arguments = json.dumps(given, ensure_ascii=False) if given else ""
            called = str(rest.pop("name", ""))
            pieces.add_call(index, "\n".join(filter(None, [called, *texts_in(rest), arguments])))
            return
        if kind == "image" and isinstance(source := rest.get("source"), Mapping):
            address = source.get("url") or f"data:{source.get('media_type')};base64,{source.get('data')}"
            pieces.add_picture(str(address))
            del rest["source"]
        spoken = rest.get(kind) if kind in _SPOKEN else None
        if isinstance(spoken, str):
            pieces.add_words(_SPOKEN[kind], spoken)
            del rest[kind]
        self._tell(index, rest, pieces)

    def _piece(self, index: int, delta: Mapping[str, Any], pieces: DeltaPieces) -> None:
        name = str(delta.get("type")).removesuffix("_delta")
        spoken = delta.get(name) if name in _SPOKEN else None
        if isinstance(spoken, str):
            pieces.add_words(_SPOKEN[name], spoken)
            self._tell(index, {field: value for field, value in delta.items() if field != name}, pieces)
        elif self._is_run_by_client(index):
            pieces.add_call(index, "".join(texts_in(delta)))
        else:
            self._tell(index, delta, pieces)

    def _tell(self, index: int, value: Mapping[str, Any], pieces: DeltaPieces) -> None:
        for text in texts_in(value):
            pieces.add_tool_text(index, text)

    def _is_run_by_client(self, index: int) -> bool:
        kind = self._kinds.get(index)
        is_known = kind in _SPOKEN or kind in _SERVER_BLOCKS or kind == "image"
        return kind is not None and not is_known and not kind.endswith("_result")

    def _counts(self, usage: Any) -> dict[str, int] | None:
        """Token counts under the names of a chat; those of a stream come in two events."""
        if not isinstance(usage, Mapping):
            return None
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        cached = count(self._usage, "cache_read_input_tokens")
        prompt, reply = count(self._usage, "input_tokens") + cached, count(self._usage, "output_tokens")
        counts: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply}
        return counts | ({"prompt_tokens_details": {"cached_tokens": cached}} if cached else {})
