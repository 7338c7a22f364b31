"""Streams of OpenAI's responses with the server's own tools, as the types of its SDK describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.guard.gateway.upstreams import pieces

TEXT = "Bread is baked at 220 degrees."
CITED = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 5,
    "title": "Baking",
    "url": "https://example.com/bread",
}


def message(text: str = TEXT, annotations: Sequence[Any] = (CITED,)) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


SEARCH: dict[str, Any] = {
    "id": "ws_1",
    "type": "web_search_call",
    "status": "completed",
    "action": {
        "type": "search",
        "query": "how to bake",
        "sources": [{"type": "url", "url": "https://example.com/bread"}],
    },
}
CODE: dict[str, Any] = {
    "id": "ci_1",
    "type": "code_interpreter_call",
    "status": "completed",
    "container_id": "cntr_1",
    "code": "print(220)",
    "outputs": [{"type": "logs", "logs": "220\n"}],
}
FILES: dict[str, Any] = {
    "id": "fs_1",
    "type": "file_search_call",
    "status": "completed",
    "queries": ["bread"],
    "results": [
        {"file_id": "file_1", "filename": "bread.txt", "score": 0.9, "text": "Bread rises.", "attributes": {"a": "b"}}
    ],
}
MCP: dict[str, Any] = {
    "id": "mcp_1",
    "type": "mcp_call",
    "status": "completed",
    "server_label": "kitchen",
    "name": "recipe",
    "arguments": '{"of": "bread"}',
    "output": "Flour and water.",
    "error": None,
    "approval_request_id": None,
}
LIST: dict[str, Any] = {
    "id": "mcpl_1",
    "type": "mcp_list_tools",
    "server_label": "kitchen",
    "tools": [{"name": "recipe", "description": "Finds recipes.", "input_schema": {"type": "object"}}],
    "error": None,
}
APPROVAL: dict[str, Any] = {
    "id": "mcpr_1",
    "type": "mcp_approval_request",
    "server_label": "kitchen",
    "name": "recipe",
    "arguments": '{"of": "bread"}',
}
REASONING: dict[str, Any] = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "The user bakes."}],
    "encrypted_content": "gAAAAABo",
}
SHELL: dict[str, Any] = {
    "id": "lsh_1",
    "type": "local_shell_call",
    "call_id": "call_1",
    "status": "completed",
    "action": {"type": "exec", "command": ["ls", "bread"], "env": {}},
}
FUNCTION: dict[str, Any] = {
    "id": "fc_1",
    "type": "function_call",
    "call_id": "call_2",
    "name": "weather",
    "arguments": '{"city": "Oslo"}',
    "status": "completed",
}
ITEMS = [SEARCH, CODE, FILES, MCP, LIST, APPROVAL, REASONING]
"""One of each that the client does not run."""


def response(*output: Mapping[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    counts = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [{"type": "web_search"}],
        "top_p": 1.0,
        "metadata": {},
        "text": {"format": {"type": "text"}},
        "usage": None if status == "in_progress" else {**counts, **details},
        **more,
    }


def events(*output: Mapping[str, Any], words: int = 4) -> list[dict[str, Any]]:
    """The events of a response: texts, code and arguments in pieces, then whole; then the response."""
    begun = response(status="in_progress")
    sent: list[dict[str, Any]] = [
        {"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")
    ]
    for index, item in enumerate(output):
        sent += _item(index, item, words)
    sent.append({"type": "response.completed", "response": response(*output)})
    return [{**event, "sequence_number": number} for number, event in enumerate(sent)]


def _item(index: int, item: Mapping[str, Any], words: int) -> list[dict[str, Any]]:
    at: dict[str, Any] = {"output_index": index, "item_id": item["id"]}
    kind = item["type"]
    empty = {name: value for name, value in item.items() if name not in ("results", "output", "outputs", "action")}
    pieced = {
        "code_interpreter_call": ("code", "code_interpreter_call_code"),
        "mcp_call": ("arguments", "mcp_call_arguments"),
        "function_call": ("arguments", "function_call_arguments"),
    }
    sent: list[dict[str, Any]] = []
    if kind == "message":
        empty |= {"content": [], "status": "in_progress"}
        for number, part in enumerate(item["content"]):
            here = {**at, "content_index": number}
            sent.append(
                {"type": "response.content_part.added", **here, "part": {**part, "text": "", "annotations": []}}
            )
            sent += [
                {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": [], "obfuscation": "xYz9"}
                for piece in _cut(part["text"], words)
            ]
            sent += [
                {
                    "type": "response.output_text.annotation.added",
                    **here,
                    "annotation_index": number_of_source,
                    "annotation": annotation,
                }
                for number_of_source, annotation in enumerate(part["annotations"])
            ]
            sent.append({"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []})
            sent.append({"type": "response.content_part.done", **here, "part": part})
    elif kind in pieced:
        field, name = pieced[kind]
        empty[field] = ""
        sent += [{"type": f"response.{name}.delta", **at, "delta": piece} for piece in _cut(item[field], words)]
        sent.append({"type": f"response.{name}.done", **at, field: item[field]})
    elif kind == "reasoning":
        empty["summary"] = []
        for number, part in enumerate(item["summary"]):
            here = {**at, "summary_index": number}
            blank = {**part, "text": ""}
            sent.append({"type": "response.reasoning_summary_part.added", **here, "part": blank})
            sent += [
                {"type": "response.reasoning_summary_text.delta", **here, "delta": piece}
                for piece in _cut(part["text"], words)
            ]
            sent.append({"type": "response.reasoning_summary_text.done", **here, "text": part["text"]})
            sent.append({"type": "response.reasoning_summary_part.done", **here, "part": part})
    else:
        sent += [{"type": f"response.{kind}.{name}", **at} for name in ("in_progress", "completed")]
    begin = {"type": "response.output_item.added", "output_index": index, "item": {**empty, "status": "in_progress"}}
    return [begin, *sent, {"type": "response.output_item.done", "output_index": index, "item": dict(item)}]


def _cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def wire(sent: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Events as they come over the wire."""
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in sent]


def answers(*output: Mapping[str, Any]) -> Any:
    """An upstream that answers with these items, whole or streamed."""

    def answer(body: dict[str, Any]) -> httpx.Response:
        if body.get("stream"):
            return pieces(*wire(events(*output)))
        return httpx.Response(200, json=response(*output))

    return answer


def read(text: str) -> list[dict[str, Any]]:
    """The events that a client received."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def with_words(item: Mapping[str, Any], path: str, words: str) -> dict[str, Any]:
    """An item with other words at a path such as `outputs/0/logs`."""
    copied: Any = json.loads(json.dumps(item))
    *steps, last = [int(step) if step.isdecimal() else step for step in path.split("/")]
    value = copied
    for step in steps:
        value = value[step]
    value[last] = words
    return dict(copied)
