"""`ResponseReader`: all words of OpenAI's responses, whole or event by event.

Servers repeat: an item comes in pieces, then whole, and once more in the whole response. A text is judged where it is
new; what was said before counts only if it stands in the same item and is equal to the last letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.message_pieces import count
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.native.delta_pieces import DeltaPieces, chunk_of, index_of, type_of
from equipoise.guard.gateway.native.text_walk import texts_in
from equipoise.guard.gateway.streaming.events import UpstreamError
from equipoise.guard.gateway.streaming.repeated_fields import SURE
from equipoise.guard.gateway.upstream import problem_of
from equipoise.guard.gateway.upstream_errors import reported_error

_SPOKEN: Final[Mapping[str, str]] = {
    "response.output_text": "content",
    "response.audio.transcript": "content",
    "response.refusal": "refusal",
    "response.reasoning_text": "reasoning_content",
    "response.reasoning_summary_text": "reasoning_content",
}
"""What comes in pieces and is read as running text, with the field of a message that it belongs to."""
_SERVER_ITEMS: Final = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_call"}
    | {"mcp_list_tools", "mcp_approval_request", "message", "reasoning", "compaction", "tool_search_output"}
)
"""Items that no client runs. What is not among them, and no output, waits for the end as a call does."""
_SERVER_PIECES: Final = ("code_interpreter", "mcp_", "web_search", "file_search", "image_gen", "shell_call_output")
_EARLIER: Final = 64
"""Texts of an item that a text is compared with."""
_LABEL: Final = re.compile(r"[\w.:/-]{0,64}", re.ASCII)
_ENDS: Final[Mapping[str, str]] = {"response.completed": "stop", "response.incomplete": "length"}
_PICTURE_FIELDS: Final = ("result", "partial_image_b64")
"""Fields with the base64 of a picture."""


class ResponseReader:
    """Reads one reply.

    Args:
        body: the request, whose settings a response repeats.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._repeated = frozenset(map(_spaced, texts_in(body, free=True)))
        self._kinds: dict[int, str] = {}
        """The type of each item."""
        self._running: dict[tuple[int, str, int], str] = {}
        """Texts that come in pieces: by item, kind, and part of the item."""
        self._known: dict[int, set[str]] = {}
        """Texts of each item that came whole."""

    def completion(self, document: dict[str, Any]) -> dict[str, Any]:
        """A whole response as the completion of a chat that carries it.

        Raises:
            RequestProblem: it failed, or is no response.
        """
        if document.get("status") in ("failed", "cancelled"):
            reported = reported_error(document.get("error"))
            if reported is not None:
                raise problem_of(reported, reported.status or 502, {})
        if not isinstance(document.get("output"), list):
            raise RequestProblem(502, "the upstream sent something that is no response", "upstream_invalid")
        pieces = DeltaPieces()
        self._response(document, pieces)
        chunk = chunk_of(document, {}, None, _usage(document))
        choice = {"index": 0, "message": {"role": "assistant", **pieces.delta}, "finish_reason": "stop"}
        return {"id": document.get("id"), "model": document.get("model"), **chunk, "choices": [choice]}

    def chunk(self, document: dict[str, Any]) -> dict[str, Any]:
        """An event as the chunk of a chat that carries it.

        Raises:
            UpstreamError: it is an error, or has no form of this API.
        """
        kind = type_of(document)
        pieces = DeltaPieces()
        index = index_of(document, "output_index")
        response = document.get("response")
        delta = document.get("delta")
        if kind in ("response.failed", "response.cancelled"):
            error = response.get("error") if isinstance(response, Mapping) else None
            raise UpstreamError("the upstream reported an error", reported_error(error))
        if kind == "response.audio.delta":
            pieces.add_sound(str(delta))
        elif kind.endswith(".delta") and isinstance(delta, str | Mapping):
            text = delta if isinstance(delta, str) else "".join(texts_in(delta))
            self._piece(kind.removesuffix(".delta"), index, _part(document), text, pieces)
            self._new(index, {name: value for name, value in document.items() if name != "delta"}, pieces)
        elif isinstance(response, Mapping):
            self._response(response, pieces)
            self._new(-1, {name: value for name, value in document.items() if name != "response"}, pieces)
        else:
            item = document.get("item")
            if isinstance(item, Mapping):
                self._item(index, item, pieces)
            # An event that is neither the beginning nor the end of something may be a piece of it.
            whole = kind.endswith((".added", ".done"))
            rest = {name: value for name, value in document.items() if name != "item"}
            self._new(index, rest, pieces, whole=whole)
        usage = _usage(response) if isinstance(response, Mapping) else None
        return chunk_of(document, pieces.delta, self._finish(kind, response), usage)

    def _finish(self, kind: str, response: Any) -> str | None:
        details = response.get("incomplete_details") if isinstance(response, Mapping) else None
        if isinstance(details, Mapping) and details.get("reason") == "content_filter":
            return "content_filter"
        return _ENDS.get(kind)

    def _piece(self, kind: str, index: int, part: int, text: str, pieces: DeltaPieces) -> None:
        key = (index, kind, part)
        self._running[key] = self._running.get(key, "") + text
        if kind in _SPOKEN:
            pieces.add_words(_SPOKEN[kind], text)
        elif kind.removeprefix("response.").startswith(_SERVER_PIECES):
            pieces.add_tool_text(index, text)
        else:
            pieces.add_call(index, text)

    def _response(self, response: Mapping[str, Any], pieces: DeltaPieces) -> None:
        """What is new in a whole response."""
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            self._item(index, item if isinstance(item, Mapping) else {"item": item}, pieces)
        for name, value in response.items():
            # A response repeats the settings of its request, and single words stand for the server's own.
            for text in texts_in(value) if name != "output" else ():
                if _spaced(text) not in self._repeated and _LABEL.fullmatch(text) is None:
                    self._new(-1, {name: text}, pieces)

    def _item(self, index: int, item: Mapping[str, Any], pieces: DeltaPieces) -> None:
        """What is new in an item."""
        self._kinds[index] = str(item.get("type"))
        if self._is_run_by_client(index):
            pieces.add_call(index, "")
        self._new(index, item, pieces)

    def _new(self, index: int, value: Mapping[str, Any], pieces: DeltaPieces, *, whole: bool = True) -> None:
        """What is new in an item, or in an event about it.

        Args:
            index: of the item.
            value: the item or the event.
            pieces: of the delta.
            whole: whether it repeats; a piece of a text may equal another by chance, if it is short.
        """
        known = self._known.setdefault(index, set())
        addresses, value = _without_pictures(value)
        for address in addresses:
            if address not in known:
                known.add(address)
                pieces.add_picture(address)
        texts = list(texts_in(value))
        if not texts:
            return
        before = known | {text for (item, _, _), text in self._running.items() if item == index}
        # Of several texts of which one is new, short ones may belong to it: letters of a word, each in an element.
        is_new = not whole or any(text not in before for text in texts)
        kind, spoken = self._kinds.get(index), _spoken(value)
        for text in texts:
            if text in before and not (is_new and len(text) < SURE):
                continue
            known.add(text)
            is_spoken = text in spoken
            # Of a text that was repeated and grew, only what was added: others would be quadratic in its length.
            if begun := _beginning(text, before):
                known.discard(begun)
                text = text[len(begun) :]
            if self._is_run_by_client(index):
                pieces.add_call(index, text)
            elif kind == "message" and is_spoken:
                pieces.add_words("content", text)
            elif kind == "reasoning" and is_spoken:
                pieces.add_words("reasoning_content", text)
            else:
                pieces.add_tool_text(index, text)

    def _is_run_by_client(self, index: int) -> bool:
        kind = self._kinds.get(index)
        return kind is not None and kind not in _SERVER_ITEMS and not kind.endswith("_output")


def _without_pictures(value: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The pictures in an item or an event, made ones and those that a program has written, and the rest of it."""
    addresses, rest = [], dict(value)
    if str(value.get("type")).removeprefix("response.").startswith("image_generation_call"):
        files = [(name, rest.pop(name, None)) for name in _PICTURE_FIELDS]
        addresses = [f"data:image/png;base64,{file}" for _, file in files if isinstance(file, str) and file]
        rest |= {name: file for name, file in files if not isinstance(file, str)}
    outputs = value.get("outputs")
    if isinstance(outputs, list):
        shown = [item for item in outputs if isinstance(item, Mapping) and item.get("type") == "image"]
        addresses += [item["url"] for item in shown if isinstance(item.get("url"), str)]
        rest["outputs"] = [
            {name: inner for name, inner in item.items() if name != "url" or not isinstance(inner, str)}
            if item in shown
            else item
            for item in outputs
        ]
    return addresses, rest


def _spoken(value: Mapping[str, Any]) -> frozenset[str]:
    """What a message, a reasoning, a part of them or an event about one says itself, apart from its sources."""
    parts = [value, value.get("part")]
    for name in ("content", "summary"):
        inner = value.get(name)
        parts += inner if isinstance(inner, list) else []
    words = [part.get(name) for part in parts if isinstance(part, Mapping) for name in ("text", "refusal")]
    return frozenset(word for word in words if isinstance(word, str))


def _spaced(text: str) -> str:
    """A text with one space between its words: servers trim and wrap the settings that they repeat."""
    return " ".join(text.split())


def _beginning(text: str, before: set[str]) -> str:
    """The longest earlier text that a text begins with; empty where there is none, or too many to look at."""
    earlier = before if len(before) <= _EARLIER else ()
    return max((other for other in earlier if len(other) >= SURE and text.startswith(other)), key=len, default="")


def _part(document: Mapping[str, Any]) -> int:
    """The number of the part of an item that a piece belongs to."""
    names = ("content_index", "summary_index", "command_index")
    return next((document[name] for name in names if isinstance(document.get(name), int)), 0)


def _usage(response: Mapping[str, Any]) -> dict[str, int] | None:
    """Token counts under the names of a chat."""
    usage = response.get("usage")
    if not isinstance(usage, Mapping):
        return None
    return {
        "prompt_tokens": count(usage, "input_tokens"),
        "completion_tokens": count(usage, "output_tokens"),
        "total_tokens": count(usage, "total_tokens"),
    }
