"""`delta_parts`: the parts of one streamed piece of a choice, tool calls by their index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from equipoise.guard.gateway.content_parts import ContentPart, all_words_in, message_parts, words_in, words_in_call

NAME: Final = "/name"
"""End of the path of a called tool's name."""


def delta_parts(choice: Mapping[str, Any]) -> list[ContentPart]:
    """The parts of the delta; paths are within the choice.

    Args:
        choice: a chunk's part about one choice.
    """
    delta = choice.get("delta")
    parts = []
    if isinstance(delta, Mapping):
        calls = delta.get("tool_calls")
        apart = {name: value for name, value in delta.items() if name not in ("tool_calls", "function_call")}
        parts = list(message_parts("delta", apart, "assistant"))
        if isinstance(calls, list):
            for number, call in enumerate(calls):
                index = call.get("index") if isinstance(call, Mapping) else None
                parts += _call(f"delta/tool_calls/{index if isinstance(index, int) else number}", call)
        elif calls is not None:
            parts += _call("delta/tool_calls", calls)
        if delta.get("function_call") is not None:
            parts += _call("delta/function_call", {"function": delta["function_call"]})
    elif delta is not None:
        parts.append(ContentPart("delta", "unsupported", words_in(delta)))
    if isinstance(choice.get("text"), str):
        # The field of a legacy completion.
        parts.append(ContentPart("text", "text", choice["text"]))
    elif choice.get("text") is not None:
        # Some clients join what is in a list.
        parts.append(ContentPart("text", "text", all_words_in(choice["text"])))
    return parts


def _call(path: str, call: Any) -> Iterator[ContentPart]:
    """A piece of a tool call: the name apart, which some servers repeat between the pieces of the arguments."""
    for kind in ("function", "custom"):
        called = call.get(kind) if isinstance(call, Mapping) else None
        name = called.get("name") if isinstance(called, Mapping) else None
        if isinstance(name, str) and isinstance(called, Mapping):
            call = {**call, kind: {key: value for key, value in called.items() if key != "name"}}
            if name:
                yield ContentPart(f"{path}{NAME}", "tool call", name)
    # Also a piece without words begins a call, which waits for the end.
    yield ContentPart(path, "tool call", words_in_call(call))
