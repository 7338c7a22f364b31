"""Tools that the upstream runs itself, or that only its own API knows: passed on, left out or refused by the policy.

A chat request has functions alone. A request of another API with other tools is therefore sent to the upstream in that
API, or it becomes a chat request without them, which the response says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.native.message_reader import MessageReader
from equipoise.guard.gateway.native.native_call import NativeCall
from equipoise.guard.gateway.native.response_reader import ResponseReader
from equipoise.guard.gateway.native.text_walk import texts_in
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.policy import ServerTools

_TRANSLATED: Final = frozenset({"function_call", "custom_tool_call", "image_generation_call"})
"""Calls in the input of a response that a chat can hold."""
_TRANSLATED_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_SERVER_ITEMS: Final = frozenset(
    {"mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "tool_search_output"}
)
_WHOLE_PAST: Final = "compaction"
"""An item, or a block, that stands for all before it: nothing can take its place."""
_CHAT_TOOLS: Final = ("function", "custom")
_MOST: Final = 20
"""Names in a header and in the record."""
_NAME: Final = re.compile(r"[\w.-]{1,64}")
Document = Mapping[str, Any]


@dataclass(frozen=True)
class ServerToolPlan:
    """What is done with the server's tools in one request."""

    body: dict[str, Any]
    """The request that becomes a chat request: without these tools. What they said earlier is text in it, if it is only
    to be judged."""
    names: tuple[str, ...] = ()
    """Their types, each once."""
    native: NativeCall | None = None
    """The request as the upstream gets it; None where it gets the chat request."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """The types of those that the upstream does not get."""
        return self.names if self.native is None else ()

    def receive(self, receipts: Receipts) -> None:
        """Add a receipt for each."""
        what = "left out, as a chat request cannot hold it" if self.native is None else "passed to the upstream"
        for name in self.names:
            receipts.expect([(f"server tools/{name}", "server tool")])
            receipts.close(f"server tools/{name}", "skipped", what)


def responses_plan(body: Document, setting: ServerTools) -> ServerToolPlan:
    """The plan for a request of OpenAI's responses.

    Raises:
        RequestProblem: the policy refuses such tools, or the request cannot do without one.
    """
    tools, items = _list(body.get("tools")), _list(body.get("input"))
    is_passed = setting == "pass"
    own = [tool for tool in tools if _is_other(tool, _CHAT_TOOLS)]
    past = [item for item in items if _is_server_item(item, passed=is_passed)]
    names = _names([*own, *past])
    if not names:
        return ServerToolPlan(dict(body))
    _refuse(names, setting)
    rest = dict(body) | ({"tools": [tool for tool in tools if not _is_other(tool, _CHAT_TOOLS)]} if own else {})
    if is_passed:
        rest.pop("tool_choice", None)
        if items:
            # A server of another kind may read reasoning that no chat request would have.
            rest["input"] = [
                _readable_item(item) if _is_server_item(item, passed=True) or _is_reasoning(item) else item
                for item in items
            ]
        return ServerToolPlan(rest, names, NativeCall("responses", body, ResponseReader(body)))
    if past:
        rest["input"] = [item for item in items if not _is_server_item(item, passed=False)]
    choice = rest.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        kept = [tool for tool in _list(choice.get("tools")) if not _is_other(tool, _CHAT_TOOLS)]
        if not kept and choice.get("mode") == "required":
            raise _needed(own[0] if own else choice)
        rest["tool_choice"] = {**choice, "tools": kept} if kept else "none"
    elif _is_other(choice, _CHAT_TOOLS):
        raise _needed(choice)
    return ServerToolPlan(_without_choice(rest, own, "required"), names)


def messages_plan(body: Document, setting: ServerTools) -> ServerToolPlan:
    """The plan for a request of Anthropic's messages.

    Raises:
        RequestProblem: the policy refuses such tools, or the request cannot do without one.
    """
    tools, messages = _list(body.get("tools")), _list(body.get("messages"))
    own = [tool for tool in tools if _is_other(tool, ("custom",))]
    fields = [name for name in ("mcp_servers", "container") if body.get(name)]
    blocks = [block for message in messages if isinstance(message, Mapping) for block in _list(message.get("content"))]
    is_passed = setting == "pass"
    past = [block for block in blocks if _is_server_block(block, passed=is_passed)]
    names = tuple(dict.fromkeys([*_names([*own, *past]), *fields]))
    if not names:
        return ServerToolPlan(dict(body))
    _refuse(names, setting)
    rest = {name: value for name, value in body.items() if name not in fields}
    rest |= {"tools": [tool for tool in tools if not _is_other(tool, ("custom",))]} if own else {}
    if past or is_passed:
        rest["messages"] = list(_without_blocks(messages, passed=is_passed))
    if is_passed:
        rest.pop("tool_choice", None)
        return ServerToolPlan(rest, names, NativeCall("messages", body, MessageReader(body)))
    choice = rest.get("tool_choice")
    if isinstance(choice, Mapping):
        chosen = next((tool for tool in own if tool.get("name") == choice.get("name")), None)
        if choice.get("type") == "tool" and chosen is not None:
            raise _needed(chosen)
        if choice.get("type") == "any":
            return ServerToolPlan(_without_choice(rest, own, choice), names)
    return ServerToolPlan(_without_choice(rest, own, None), names)


def refuse_server_tools(body: Document, setting: ServerTools) -> None:
    """Refuse a chat request with other tools than functions, if the policy does; it needs no translation otherwise.

    Raises:
        RequestProblem: it has some.
    """
    own = [tool for tool in _list(body.get("tools")) if _is_other(tool, _CHAT_TOOLS)]
    names = [*_names(own), *(["web_search_options"] if body.get("web_search_options") is not None else [])]
    if names:
        _refuse(names, setting)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_other(tool: Any, known: tuple[str, ...]) -> bool:
    """Whether a tool is of another type than the ones whose calls a client can answer."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    return isinstance(kind, str) and bool(kind) and kind not in known


def _is_server_item(item: Any, *, passed: bool) -> bool:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if not isinstance(kind, str) or kind in _TRANSLATED or kind in _TRANSLATED_OUTPUTS:
        return False
    return kind in _SERVER_ITEMS or kind.endswith(("_call", "_call_output")) or (passed and kind == _WHOLE_PAST)


def _is_server_block(block: Any, *, passed: bool) -> bool:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        return False
    is_call = kind.endswith(("_tool_use", "_tool_result"))
    return is_call or (passed and kind == _WHOLE_PAST)


def _is_reasoning(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") in ("reasoning", "thinking")


def _names(tools: list[Any]) -> tuple[str, ...]:
    kinds = [str(tool.get("type")) for tool in tools]
    names = tuple(dict.fromkeys(kind if _NAME.fullmatch(kind) else "unknown" for kind in kinds))
    return names if len(names) <= _MOST else (*names[:_MOST], "more")


def _refuse(names: list[str] | tuple[str, ...], setting: ServerTools) -> None:
    if setting == "refuse":
        message = f"expected functions as tools; the policy refuses the server's own ({', '.join(names)})"
        raise RequestProblem(400, message, "unsupported_parameter", param="tools")


def _needed(tool: Any) -> RequestProblem:
    (name,) = _names([tool])
    message = f"expected a function as tool_choice; {name} is a tool of the server's, which is not passed on here"
    return RequestProblem(400, message, "unsupported_parameter", param="tool_choice")


def _without_choice(body: dict[str, Any], own: list[Any], required: Any) -> dict[str, Any]:
    """A request that has lost its tools, without the settings that servers refuse then.

    Raises:
        RequestProblem: a call of one was required, and none is left.
    """
    if not own or body.get("tools"):
        return body
    if required is not None and body.get("tool_choice") == required:
        raise _needed(own[0])
    dropped = ("tools", "tool_choice", "parallel_tool_calls")
    return {name: value for name, value in body.items() if name not in dropped}


def _readable_item(item: Document) -> dict[str, Any]:
    """An item as a message that has its words and pictures: it is judged, and not sent."""
    role = "tool" if str(item["type"]).endswith(("_output", "_response")) else "assistant"
    images = [{"type": "input_image", "image_url": url} for url in _addresses(item)]
    text = "\n".join(text for text in texts_in(item) if text not in {image["image_url"] for image in images})
    output = item.get("output")
    files = [{"type": "input_file"}] if isinstance(output, Mapping) and output.get("file_id") else []
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}, *images, *files]}


def _addresses(value: Any) -> Iterator[str]:
    """The addresses of pictures in an item."""
    if isinstance(value, list):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, Mapping):
        if isinstance(value.get("image_url"), str):
            yield value["image_url"]
        for item in value.values():
            yield from _addresses(item)


def _readable_block(block: Document) -> list[dict[str, Any]]:
    """A block as text and pictures: it is judged, and not sent."""
    images = list(_images(block))
    packed = {str(image["source"].get(name)) for image in images for name in ("data", "url")}
    text = "\n".join(text for text in texts_in(block) if text not in packed)
    return [{"type": "text", "text": text}, *images]


def _images(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _images(item)
    elif isinstance(value, Mapping):
        if value.get("type") == "image" and isinstance(value.get("source"), Mapping):
            yield dict(value)
            return
        for item in value.values():
            yield from _images(item)


def _without_blocks(messages: list[Any], *, passed: bool) -> Iterator[Any]:
    """Messages without the blocks of the server's tools; with readable ones for them if these are passed on."""
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
            yield message
            continue
        content: list[Any] = []
        for block in message["content"]:
            if _is_server_block(block, passed=passed) or (passed and _is_reasoning(block)):
                content += _readable_block(block) if passed else []
            else:
                content.append(block)
        if content:
            yield {**message, "content": content}
