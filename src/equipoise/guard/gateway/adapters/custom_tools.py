"""OpenAI's custom tools, whose input is a text, as functions with one argument: most chat servers know no others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.message_pieces import ToolCall

_PARAMETERS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input of the tool."}},
    "required": ["input"],
}


def custom_names(body: Mapping[str, Any]) -> frozenset[str]:
    """The names of the custom tools of a request."""
    tools = body.get("tools")
    custom = [tool for tool in (tools if isinstance(tools, list) else ()) if isinstance(tool, Mapping)]
    return frozenset(str(tool.get("name")) for tool in custom if tool.get("type") == "custom")


def as_function(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A custom tool as a function; the grammar of its input stands in the description."""
    form = tool.get("format")
    lines = [tool.get("description")]
    if isinstance(form, Mapping) and form.get("type") == "grammar":
        lines += [f"The input follows this grammar ({form.get('syntax')}):", form.get("definition")]
    description = "\n\n".join(line for line in lines if isinstance(line, str) and line)
    function = {"name": tool.get("name"), "parameters": dict(_PARAMETERS)}
    return {"type": "function", "function": function | ({"description": description} if description else {})}


def as_arguments(text: Any) -> str:
    """The arguments of a function for the input of a custom tool."""
    return json.dumps({"input": text if isinstance(text, str) else ""})


def input_of(arguments: str) -> str:
    """The input of a custom tool by the arguments of its function; of a model that wrote none, the arguments."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    given = value.get("input") if isinstance(value, dict) else None
    return given if isinstance(given, str) else arguments


def custom_item(call: ToolCall) -> dict[str, Any]:
    """The call of a custom tool as an item of a response."""
    return {
        "id": f"ctc_{call.id}",
        "type": "custom_tool_call",
        "call_id": call.id,
        "name": call.name,
        "input": input_of(call.arguments),
        "status": "completed",
    }
