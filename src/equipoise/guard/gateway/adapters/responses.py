"""`/v1/responses`: OpenAI's responses, translated to a chat request. Nothing is stored between requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import plain, refuse_fields, tools_of, unsupported
from equipoise.guard.gateway.adapters.call_ids import without_extra
from equipoise.guard.gateway.adapters.custom_tools import as_arguments, as_function, custom_item, custom_names
from equipoise.guard.gateway.adapters.message_pieces import RETURNED, ToolCalls, pieces_of, reasoning_field
from equipoise.guard.gateway.adapters.reply_pictures import (
    media_of,
    picture_base64,
    picture_item,
    picture_text,
    pictures_of,
)
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
from equipoise.guard.gateway.adapters.responses_stream import ResponsesStream
from equipoise.guard.gateway.adapters.server_tools import ServerToolPlan, responses_plan
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.file_parts import chat_file
from equipoise.guard.gateway.native.response_events import NativeResponsesStream
from equipoise.guard.policy import ServerTools

_CANNOT: Final[Mapping[str, Any]] = {
    "previous_response_id": None,
    "conversation": None,
    "background": False,
    "prompt": None,
}
_TAKEN: Final = frozenset(
    {"input", "instructions", "max_output_tokens", "reasoning", "text", "tools", "tool_choice", "truncation"}
    | {"include", "store", "stream_options", "top_logprobs"}
    # About the server's own tools and its own memory alone, of which there is none here.
    | {"max_tool_calls", "context_management"}
)
_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


class ResponsesAdapter:
    """OpenAI's responses."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Input, tools and settings as a chat request.

        Raises:
            RequestProblem: no input, or something that no chat request can hold.
        """
        refuse_fields(body, _CANNOT)
        messages: list[dict[str, Any]] = []
        if body.get("instructions"):
            messages.append({"role": "system", "content": body["instructions"]})
        messages += _messages(body.get("input"))
        chat = {name: value for name, value in body.items() if name not in {*_TAKEN, *_CANNOT}}
        chat["messages"] = messages
        if body.get("max_output_tokens") is not None:
            chat["max_completion_tokens"] = body["max_output_tokens"]
        if body.get("top_logprobs"):
            chat |= {"logprobs": True, "top_logprobs": body["top_logprobs"]}
        if isinstance(body.get("reasoning"), Mapping) and body["reasoning"].get("effort"):
            chat["reasoning_effort"] = body["reasoning"]["effort"]
        if isinstance(body.get("text"), Mapping):
            chat |= _format(body["text"])
        if body.get("tools"):
            chat["tools"] = [_tool(tool) for tool in tools_of(body)]
        if body.get("tool_choice") is not None:
            chat["tool_choice"] = _tool_choice(body["tool_choice"])
        if body.get("stream") is True:
            chat["stream_options"] = {"include_usage": True}
        return chat

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The first choice as a response."""
        choice = completion["choices"][0]
        message = choice.get("message") or {}
        identity = str(completion.get("id", "")).removeprefix("chatcmpl-")
        response = frame(identity, completion.get("model") or body.get("model"), body)
        calls = ToolCalls()
        calls.add(message)
        texts: dict[str, str] = {}
        for kind, text in pieces_of(message):
            texts[kind] = texts.get(kind, "") + text
        output = []
        if texts.get("reasoning"):
            output.append(reasoning_item(identity, texts["reasoning"], reasoning_field(message)))
        pictures = [(address, picture_base64(address)) for address in pictures_of(message)]
        links = "\n\n".join(picture_text(address) for address, content in pictures if content is None)
        if links:
            texts["text"] = "\n\n".join(filter(None, (texts.get("text"), links)))
        tokens = token_logprobs(choice)
        sources = annotations_of(message)
        parts = [content_part(kind, texts[kind], tokens, sources) for kind in ("text", "refusal") if texts.get(kind)]
        if parts:
            output.append(message_item(identity, parts))
        files = [content[1] for _, content in pictures if content is not None]
        output += [picture_item(f"{identity}_{number}", packed) for number, packed in enumerate(files)]
        custom = custom_names(body)
        output += [custom_item(call) if call.name in custom else call_item(call) for call in calls.all()]
        return {
            **response,
            "output": output,
            **ending(choice.get("finish_reason"), output),
            "usage": token_counts(completion),
        }

    def stream(self, body: Mapping[str, Any]) -> ResponsesStream:
        """A translator of one stream."""
        return ResponsesStream(
            lambda identity, model: frame(identity, model or body.get("model"), body), custom_names(body)
        )

    def plan(self, body: Mapping[str, Any], setting: ServerTools) -> ServerToolPlan:
        """What is done with the server's tools.

        Raises:
            RequestProblem: they are refused.
        """
        return responses_plan(body, setting)

    def native_stream(self, body: Mapping[str, Any]) -> NativeResponsesStream:
        """A translator of a stream whose chunks carry the upstream's own events."""
        return NativeResponsesStream(body, lambda identity, model: frame(identity, model or body.get("model"), body))

    def problem(self, problem: RequestProblem) -> dict[str, Any]:
        """OpenAI's form."""
        return problem.body()


def frame(identity: str, model: Any, body: Mapping[str, Any]) -> dict[str, Any]:
    """A response without output.

    Args:
        identity: of the reply.
        model: that replies.
        body: the request, whose settings a response repeats.
    """
    return {
        "id": f"resp_{identity}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "previous_response_id": None,
        "store": False,
        **{name: default if body.get(name) is None else body[name] for name, default in _ECHOED.items()},
        "usage": None,
    }


def _messages(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise RequestProblem(400, "expected input: a text or a list of items", "invalid_request", param="input")
    messages: list[dict[str, Any]] = []
    for number, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise RequestProblem(400, f"expected an object in input/{number}", "invalid_request", param="input")
        kind = item.get("type") or "message"
        if kind == "message" and isinstance(item.get("role"), str):
            turn = {"role": item["role"], "content": _content(item.get("content"))}
            if turn["role"] == "assistant" and messages and _only_thought(messages[-1]):
                messages[-1] |= turn
            else:
                messages.append(turn)
        elif kind in ("function_call", "custom_tool_call"):
            given = item.get("arguments") if kind == "function_call" else as_arguments(item.get("input"))
            identity, extra = without_extra(item.get("call_id"))
            function = {"name": item.get("name"), "arguments": given}
            call = {"id": identity, "type": "function", "function": function, **extra}
            _last_reply(messages).setdefault("tool_calls", []).append(call)
        elif kind == "image_generation_call" and isinstance(item.get("result"), str):
            url = f"data:{media_of(item['result'])};base64,{item['result']}"
            _last_reply(messages).setdefault("images", []).append({"type": "image_url", "image_url": {"url": url}})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            content = _content(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": without_extra(item.get("call_id"))[0], "content": content})
        elif kind == "reasoning":
            thought = _thought(item)
            # Behind other words of the assistant it is a message of its own, and the calls after it are its.
            messages += [{"role": "assistant", "content": None, **thought}] if thought else []
        else:
            raise unsupported(f"expected messages and function calls in input/{number}", "input")
    return [message for message in messages if not _only_thought(message)]


def _thought(item: Mapping[str, Any]) -> dict[str, str]:
    """Earlier reasoning in the field that it came in; empty of another server's, which ours could not use."""
    source, content = item.get("encrypted_content"), item.get("content")
    if source not in RETURNED or not isinstance(content, list):
        return {}
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return {str(source): "".join(text for text in texts if isinstance(text, str))}


def _only_thought(message: Mapping[str, Any]) -> bool:
    """Whether a message has reasoning and says nothing, which servers refuse."""
    return any(name in message for name in RETURNED) and not any(
        message.get(name) for name in ("content", "tool_calls", "images")
    )


def _last_reply(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The message of the assistant at the end, which is made if there is none.

    Calls and pictures stand beside messages in this API and inside the assistant's message in chat. Several in a row
    are one message, or a chat template would write several assistants one after the other.
    """
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _content(value: Any) -> Any:
    return plain([part for item in value for part in _parts(item)]) if isinstance(value, list) else value


def _parts(item: Any) -> list[Any]:
    """What a part of content becomes."""
    is_file = isinstance(item, Mapping) and item.get("type") == "input_file"
    return chat_file(item) if is_file else [_part(item)]


def _part(item: Any) -> Any:
    """A part of content; those of other types stay as they are, to be refused by the checks."""
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": item.get("text")}
    if kind == "input_image" and item.get("image_url"):
        image = {"url": item["image_url"]}
        return {"type": "image_url", "image_url": image | ({"detail": item["detail"]} if item.get("detail") else {})}
    return item


def _format(text: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    form = text.get("format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        schema = {name: value for name, value in form.items() if name != "type" and value is not None}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif isinstance(form, Mapping) and form.get("type") == "json_object":
        settings["response_format"] = {"type": "json_object"}
    if text.get("verbosity"):
        settings["verbosity"] = text["verbosity"]
    return settings


def _tool(tool: Any) -> dict[str, Any]:
    if isinstance(tool, Mapping) and tool.get("type") == "custom":
        return as_function(tool)
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise unsupported("expected functions as tools; the server's tools are not available", "tools")
    # Clients of this API send null for what they leave out; many chat servers refuse that.
    given = {name: value for name, value in tool.items() if name != "type" and value is not None}
    # Some clients write a tool as in a chat.
    inner = given.get("function")
    return {"type": "function", "function": dict(inner) if isinstance(inner, Mapping) else given}


def _tool_choice(choice: Any) -> Any:
    """Which tool a reply may call.

    Raises:
        RequestProblem: one of the server's own.
    """
    if not isinstance(choice, Mapping):
        return choice
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        allowed = {"mode": choice.get("mode", "auto"), "tools": [_tool_choice(tool) for tool in choice["tools"]]}
        return {"type": "allowed_tools", "allowed_tools": allowed}
    if choice.get("type") not in ("function", "custom"):
        raise unsupported("expected a function as tool_choice; the server's tools are not available", "tool_choice")
    inner = choice.get("function")
    name = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
    return {"type": "function", "function": {"name": name}}
