"""`/v1/messages`: Anthropic's messages, translated to a chat request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import plain, refuse_fields, tools_of, unsupported
from equipoise.guard.gateway.adapters.call_ids import without_extra
from equipoise.guard.gateway.adapters.message_pieces import RETURNED, ToolCalls, pieces_of, reasoning_field
from equipoise.guard.gateway.adapters.messages_stream import MessagesStream, ending, error_type, tokens
from equipoise.guard.gateway.adapters.reply_pictures import picture_block, pictures_of
from equipoise.guard.gateway.adapters.server_tools import ServerToolPlan, messages_plan
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.file_parts import chat_file
from equipoise.guard.gateway.json_depth import is_too_deep
from equipoise.guard.gateway.native.message_events import NativeMessagesStream
from equipoise.guard.gateway.request_body import finite, reject_constant
from equipoise.guard.policy import ServerTools

_PASSED: Final = ("model", "max_tokens", "temperature", "top_p", "top_k", "stream")
_CANNOT: Final[Mapping[str, Any]] = {"container": None, "mcp_servers": []}
_DROPPED: Final = frozenset(
    {"messages", "system", "tools", "tool_choice", "stop_sequences", "metadata", "output_config", "output_format"}
    # The upstream's own business: how it thinks, at what price, and what of a long history it leaves out.
    | {"thinking", "service_tier", "context_management", "cache_control", "inference_geo", "speed"}
)
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


class MessagesAdapter:
    """Anthropic's messages."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The messages, tools and settings in OpenAI's form; `thinking` is the upstream's own business.

        Raises:
            RequestProblem: no messages, or something that no chat request can hold.
        """
        refuse_fields(body, _CANNOT)
        if not isinstance(body.get("messages"), list) or not body["messages"]:
            raise RequestProblem(400, "expected messages, a list that is not empty", "invalid_request")
        messages: list[dict[str, Any]] = []
        if body.get("system"):
            messages.append({"role": "system", "content": _content(body["system"], "system")})
        for number, message in enumerate(body["messages"]):
            if not isinstance(message, Mapping) or message.get("role") not in ("user", "assistant", "system"):
                raise RequestProblem(400, f"expected a role in messages/{number}", "invalid_request")
            messages += _assistant(message) if message["role"] == "assistant" else _user(message)
        chat = {name: body[name] for name in _PASSED if name in body}
        # Fields that nobody here knows are passed on: servers have settings of their own, and a gateway that drops them
        # changes replies without a word.
        chat |= {name: value for name, value in body.items() if name not in (*_PASSED, *_DROPPED, *_CANNOT)}
        chat["messages"] = messages
        if body.get("stop_sequences"):
            chat["stop"] = body["stop_sequences"]
        if isinstance(body.get("metadata"), Mapping) and body["metadata"].get("user_id"):
            chat["user"] = _user_id(body["metadata"]["user_id"])
        if body.get("tools"):
            chat["tools"] = [_tool(tool) for tool in tools_of(body)]
        if isinstance(body.get("tool_choice"), Mapping):
            chat |= _tool_choice(body["tool_choice"])
        chat |= _output(body)
        if body.get("stream") is True:
            chat["stream_options"] = {"include_usage": True}
        return chat

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The first choice as a list of blocks."""
        choice = completion["choices"][0]
        message, calls = choice.get("message") or {}, ToolCalls()
        calls.add(message)
        blocks: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": text, "signature": reasoning_field(message)}
            if kind == "reasoning"
            else {"type": "text", "text": text}
            for kind, text in pieces_of(message)
        ]
        blocks += [picture_block(address) for address in pictures_of(message)]
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call.arguments)}
            for call in calls.all()
        ]
        return {
            "id": str(completion.get("id", "")).replace("chatcmpl", "msg"),
            "type": "message",
            "role": "assistant",
            "model": completion.get("model", ""),
            "content": blocks,
            **ending(choice, body, calls=bool(calls.all())),
            "usage": tokens(completion.get("usage")),
        }

    def stream(self, body: Mapping[str, Any]) -> MessagesStream:
        """A translator of one stream."""
        return MessagesStream(body)

    def plan(self, body: Mapping[str, Any], setting: ServerTools) -> ServerToolPlan:
        """What is done with the server's tools.

        Raises:
            RequestProblem: they are refused.
        """
        return messages_plan(body, setting)

    def native_stream(self, body: Mapping[str, Any]) -> NativeMessagesStream:
        """A translator of a stream whose chunks carry the upstream's own events."""
        return NativeMessagesStream(body)

    def problem(self, problem: RequestProblem) -> dict[str, Any]:
        """Anthropic's form."""
        kind = error_type(problem.status, problem.code)
        return {"type": "error", "error": {"type": kind, "message": problem.message, "code": problem.code}}


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a tool as an object; what is none stays a text."""
    try:
        value = json.loads(text.strip() or "{}", parse_constant=reject_constant, parse_float=finite)
    except (ValueError, RecursionError):
        return {"arguments": text}
    if value is None:
        return {}
    return value if isinstance(value, dict) and not is_too_deep(value) else {"arguments": text}


def _content(value: Any, where: str) -> Any:
    """Text or a list of blocks as content of a chat message; other blocks stay, to be refused by the checks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestProblem(400, f"expected a text or a list of blocks in {where}", "invalid_request")
    return plain([part for block in value for part in _parts(block)])


def _parts(block: Any) -> list[Any]:
    """The parts that a block stands for: documents that are texts, and results of searches, are read."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind == "document":
        source = block.get("source")
        form = source.get("type") if isinstance(source, Mapping) else None
        words = source.get("data") if form == "text" else source.get("content") if form == "content" else None
        fields = ("title", "context")
    elif kind == "search_result":
        words, fields = block.get("content"), ("title", "source")
    elif kind == "tool_reference":
        return [{"type": "text", "text": f"Tool: {block.get('tool_name')}"}]
    else:
        return [_block(block)]
    if not isinstance(words, str | list):
        return chat_file(block) if kind == "document" and isinstance(block.get("source"), Mapping) else [dict(block)]
    heads = [block[name] for name in fields if isinstance(block.get(name), str) and block[name]]
    inner = [{"type": "text", "text": words}] if isinstance(words, str) else [_block(part) for part in words]
    return [*([{"type": "text", "text": "\n".join(heads)}] if heads else []), *inner]


def _block(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    source = block.get("source")
    if block.get("type") == "text":
        return {"type": "text", "text": block.get("text")}
    if block.get("type") == "image" and isinstance(source, Mapping):
        if source.get("type") == "base64":
            url = f"data:{source.get('media_type')};base64,{source.get('data')}"
            return {"type": "image_url", "image_url": {"url": url}}
        if source.get("type") == "url":
            return {"type": "image_url", "image_url": {"url": source.get("url")}}
    # Unknown kinds stay in the message and are refused by the checks behind: dropped here, something unchecked would
    # look checked.
    return dict(block)


def _user(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A user's message; the results of tools in it are messages of their own, which come first."""
    content = message.get("content")
    if not isinstance(content, list):
        yield {"role": message["role"], "content": _content(content, "content")}
        return
    # Chat servers want the results of tools directly behind the call that they answer, so they go before the words that
    # stand beside them in Anthropic's message.
    rest = []
    for block in content:
        if isinstance(block, Mapping) and block.get("type") == "tool_result":
            yield {
                "role": "tool",
                "tool_call_id": without_extra(block.get("tool_use_id"))[0],
                "content": _result(block),
            }
        else:
            rest += _parts(block)
    if rest:
        yield {"role": message["role"], "content": plain(rest)}


def _result(block: Mapping[str, Any]) -> Any:
    """The result of a tool; that it failed has no field in a chat, so it is said."""
    result = _content(block.get("content") or "", "tool_result")
    if block.get("is_error") is not True:
        return result
    if isinstance(result, str):
        return f"Error: {result}" if result else "Error"
    return [{"type": "text", "text": "Error:"}, *result]


def _assistant(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """An earlier reply; its thinking goes back into the field that it came in, and others' thinking is left out."""
    content = message.get("content")
    if not isinstance(content, list):
        yield {"role": "assistant", "content": _content(content, "content")}
        return
    blocks: list[Any] = []
    calls: list[dict[str, Any]] = []
    images: list[Any] = []
    more: dict[str, Any] = {}
    for block in content:
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "tool_use":
            function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
            identity, extra = without_extra(block.get("id"))
            calls.append({"id": identity, "type": "function", "function": function, **extra})
        elif kind == "thinking" and block.get("signature") in RETURNED and isinstance(block.get("thinking"), str):
            # Of our own upstream, which may refuse calls of tools without the reasoning that led to them.
            more[block["signature"]] = more.get(block["signature"], "") + block["thinking"]
        elif kind == "image":
            # Back in the field of the reply that it came in.
            images.append(_block(block))
        # Thinking is signed by the server that wrote it; another upstream could neither check nor use it.
        elif kind not in ("thinking", "redacted_thinking"):
            blocks.append(_block(block))
    # A reply that only thought says nothing to another upstream, and servers refuse a message without content.
    if blocks or calls or images:
        more |= ({"tool_calls": calls} if calls else {}) | ({"images": images} if images else {})
        yield {"role": "assistant", "content": plain(blocks) or None} | more


def _output(body: Mapping[str, Any]) -> dict[str, Any]:
    """The form of the reply and the effort for it: `output_config`, or `output_format` of the beta."""
    config = body.get("output_config")
    config = config if isinstance(config, Mapping) else {}
    settings: dict[str, Any] = {}
    form = config.get("format") or body.get("output_format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    if config.get("effort"):
        settings["reasoning_effort"] = config["effort"]
    return settings


def _user_id(given: Any) -> Any:
    """The user's id; OpenAI takes 64 characters, Anthropic 256, so that of a longer one it is the hash."""
    return hashlib.sha256(given.encode()).hexdigest() if isinstance(given, str) and len(given) > 64 else given


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, Mapping) or (tool.get("type") or "custom") != "custom" or "name" not in tool:
        raise unsupported("expected tools with an input_schema; Anthropic's own tools are not available", "tools")
    function = {"name": tool["name"], "parameters": tool.get("input_schema") or {}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if choice.get("type") == "tool":
        settings["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice.get("type") in _CHOICES:
        settings["tool_choice"] = _CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use") is True:
        settings["parallel_tool_calls"] = False
    return settings
