"""`ResponsesStream`: chunks of a chat completion as events of OpenAI's responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.guard.gateway.adapters.adapter import named_event
from equipoise.guard.gateway.adapters.custom_tools import custom_item
from equipoise.guard.gateway.adapters.message_pieces import FirstChoiceStream, PieceKind, ToolCall, first_choices
from equipoise.guard.gateway.adapters.reply_pictures import picture_base64, picture_item, picture_text
from equipoise.guard.gateway.adapters.responses_items import (
    annotations_of,
    call_item,
    content_part,
    ending,
    message_item,
    reasoning_item,
    token_counts,
    token_logprobs,
)

_DELTAS = {"text": "response.output_text", "refusal": "response.refusal", "reasoning": "response.reasoning_text"}


class ResponsesStream(FirstChoiceStream):
    """One stream.

    Args:
        frame: makes a response without output from an id and the model's name.
        custom: names of tools whose input is a text.
    """

    def __init__(self, frame: Callable[[str, Any], dict[str, Any]], custom: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._custom = custom
        self._frame = frame
        self._response: dict[str, Any] = {}
        self._identity = ""
        self._sequence = 0
        self._output: list[dict[str, Any]] = []
        """Items that are complete."""
        self._item = ""
        """The open item, `message` or `reasoning`; empty if none is open."""
        self._parts: list[dict[str, Any]] = []
        """Parts of the open message that are complete."""
        self._kind, self._text = "", ""
        """Kind and text of the open part."""
        self._new_logprobs: list[Any] = []
        """Of the tokens of the chunk that is being read."""
        self._logprobs: list[Any] = []
        """Of the tokens of the open part."""
        self._annotations: list[dict[str, Any]] = []
        """The sources of the open part."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """The events for the first choice of a chunk."""
        first = first_choices(chunk)
        self._new_logprobs = [token for choice in first for token in token_logprobs(choice)]
        events = super().chunk(chunk)
        for annotation in (item for choice in first for item in annotations_of(choice.get("delta") or {})):
            events += self._annotate(annotation)
        return events

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error, and the response as failed."""
        self._failed = True
        code, message = error.get("code"), error.get("message")
        # Typed clients read the code as a text.
        code = str(code) if isinstance(code, int) else code
        events = [*self._begin({}), self._event("error", code=code, message=message, param=error.get("param"))]
        failed = {**self._response, "status": "failed", "error": {"code": "server_error", "message": message}}
        return [*events, self._event("response.failed", response=failed)]

    def end(self) -> list[bytes]:
        """The open item's end, the tool calls and the whole response."""
        if self._failed:
            return []
        events = [*self._begin({}), *self._close_item()]
        for call in self._calls.all():
            events += self._call(call)
        end = ending(self._last.get("finish_reason"), self._output)
        response = {**self._response, **end, "output": self._output, "usage": token_counts({"usage": self._usage})}
        return [*events, self._event(f"response.{end['status']}", response=response)]

    def _call(self, call: ToolCall) -> list[bytes]:
        """The events of a call, which is whole: it was held back until the last check."""
        is_custom = call.name in self._custom
        item = custom_item(call) if is_custom else call_item(call)
        what, prefix = ("input", "custom_tool_call_input") if is_custom else ("arguments", "function_call_arguments")
        at = {"item_id": item["id"], "output_index": len(self._output)}
        name = {} if is_custom else {"name": call.name}
        events = [
            self._event(
                "response.output_item.added",
                output_index=len(self._output),
                item={**item, what: "", "status": "in_progress"},
            ),
            self._event(f"response.{prefix}.delta", **at, delta=item[what]),
            self._event(f"response.{prefix}.done", **at, **name, **{what: item[what]}),
            self._event("response.output_item.done", output_index=len(self._output), item=item),
        ]
        self._output.append(item)
        return events

    def _begin(self, chunk: Mapping[str, Any]) -> list[bytes]:
        if self._response:
            return []
        self._identity = str(chunk.get("id") or "0").removeprefix("chatcmpl-")
        self._response = self._frame(self._identity, chunk.get("model"))
        return [self._event(f"response.{name}", response=self._response) for name in ("created", "in_progress")]

    def _say(self, kind: PieceKind, text: str) -> list[bytes]:
        item = "reasoning" if kind == "reasoning" else "message"
        events: list[bytes] = []
        if item != self._item:
            events += [*self._close_item(), *self._open_item(item)]
        if kind != self._kind:
            events += [*self._close_part(), *self._open_part(kind)]
        self._text += text
        more: dict[str, Any] = {}
        if kind == "text":
            tokens, self._new_logprobs = self._new_logprobs, []
            self._logprobs += tokens
            more["logprobs"] = tokens
        return [*events, self._event(f"{_DELTAS[kind]}.delta", **self._at(), delta=text, **more)]

    def _show(self, address: str) -> list[bytes]:
        content = picture_base64(address)
        if content is None:
            return self._say("text", f"\n\n{picture_text(address)}" if self._kind == "text" else picture_text(address))
        events = self._close_item()
        item = picture_item(f"{self._identity}_{len(self._output)}", content[1])
        at = {"output_index": len(self._output)}
        named = {**at, "item_id": item["id"]}
        self._output.append(item)
        return [
            *events,
            self._event("response.output_item.added", **at, item={**item, "status": "in_progress", "result": None}),
            self._event("response.image_generation_call.in_progress", **named),
            self._event("response.image_generation_call.completed", **named),
            self._event("response.output_item.done", **at, item=item),
        ]

    def _annotate(self, annotation: dict[str, Any]) -> list[bytes]:
        """The event of a source; one outside of a text has no place in this API."""
        if self._kind != "text":
            return []
        self._annotations.append(annotation)
        at = {**self._at(), "annotation_index": len(self._annotations) - 1}
        return [self._event("response.output_text.annotation.added", **at, annotation=annotation)]

    def _open_item(self, item: str) -> list[bytes]:
        self._item, self._parts = item, []
        begun = {**self._whole_item(), "status": "in_progress", "content": []}
        return [self._event("response.output_item.added", output_index=len(self._output), item=begun)]

    def _open_part(self, kind: str) -> list[bytes]:
        self._kind, self._text, self._logprobs, self._annotations = kind, "", [], []
        return [self._event("response.content_part.added", **self._at(), part=self._part())]

    def _close_part(self) -> list[bytes]:
        if not self._kind:
            return []
        name = {"refusal": "refusal"}.get(self._kind, "text")
        more: dict[str, Any] = {"logprobs": self._logprobs} if self._kind == "text" else {}
        events = [
            self._event(f"{_DELTAS[self._kind]}.done", **self._at(), **{name: self._text}, **more),
            self._event("response.content_part.done", **self._at(), part=self._part()),
        ]
        self._parts.append(self._part())
        self._kind = ""
        return events

    def _close_item(self) -> list[bytes]:
        if not self._item:
            return []
        events = self._close_part()
        item = self._whole_item()
        events.append(self._event("response.output_item.done", output_index=len(self._output), item=item))
        self._output.append(item)
        self._item = ""
        return events

    def _whole_item(self) -> dict[str, Any]:
        identity = f"{self._identity}_{len(self._output)}"
        if self._item == "message":
            return message_item(identity, list(self._parts))
        return {**reasoning_item(identity, "", self._reasoning_field), "content": list(self._parts)}

    def _part(self) -> dict[str, Any]:
        if self._kind == "reasoning":
            return {"type": "reasoning_text", "text": self._text}
        return content_part(self._kind, self._text, self._logprobs, self._annotations)

    def _at(self) -> dict[str, Any]:
        identity = self._whole_item()["id"]
        return {"item_id": identity, "output_index": len(self._output), "content_index": len(self._parts)}

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return named_event({"type": kind, "sequence_number": self._sequence - 1, **fields})
