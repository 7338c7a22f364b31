"""A whole reply of another API as the events of a stream, and the events of a response as a whole one.

Some proxies know one form alone; what is judged is what the client gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.streaming.events import UpstreamError

_ENDS = ("response.completed", "response.incomplete")


def response_events(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A response as events: each item whole, then the response.

    Raises:
        RequestProblem: it is none.
    """
    output = document.get("output")
    if not isinstance(output, list):
        raise RequestProblem(502, "the upstream sent something that is no response", "upstream_invalid")
    begun = {**document, "status": "in_progress", "output": [], "usage": None}
    starts = ("response.created", "response.in_progress")
    events: list[dict[str, Any]] = [{"type": kind, "response": begun} for kind in starts]
    for index, item in enumerate(output):
        events += [
            {"type": f"response.output_item.{name}", "output_index": index, "item": item} for name in ("added", "done")
        ]
    end = "incomplete" if document.get("status") == "incomplete" else "completed"
    events.append({"type": f"response.{end}", "response": dict(document)})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def message_events(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message as events: each block whole in its start.

    Raises:
        RequestProblem: it is none.
    """
    content = document.get("content")
    if not isinstance(content, list):
        raise RequestProblem(502, "the upstream sent something that is no message", "upstream_invalid")
    ends = ("stop_reason", "stop_sequence")
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**document, "content": [], **dict.fromkeys(ends)}}
    ]
    for index, block in enumerate(content):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    delta = {name: document.get(name) for name in ends}
    events.append({"type": "message_delta", "delta": delta, "usage": document.get("usage")})
    return [*events, {"type": "message_stop"}]


def response_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The response in the last event of a stream.

    Raises:
        UpstreamError: the stream has no end.
    """
    last = next((event for event in reversed(events) if event.get("type") in _ENDS), None)
    if last is None or not isinstance(last.get("response"), dict):
        raise UpstreamError("the upstream ended in the middle of its reply")
    return dict(last["response"])
