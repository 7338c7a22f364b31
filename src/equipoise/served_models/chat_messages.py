"""Messages as OpenAI's chat protocol writes them, and what its responses hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise.media.encode import png_data_url
from equipoise.types import Message

THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_text", "summary_text", "thought"})
"""Types of parts of a content that are reasoning."""
NOTHING: Final = re.compile(
    r"(?i)[\s\u200b-\u200f\u2060\ufeff]*(?:null|none|nil|undefined|nan|n/a|false|no|0|\[\s*\]|\{\s*\})?[\s\u200b-\u200f\u2060\ufeff]*"
)
"""A text that stands for no text: blanks, characters without width, a word for nothing."""
CALLS: Final = re.compile(
    r"(?s)\s*(?:(?:<tool_call>(?:(?!</tool_call>).)*(?:</tool_call>|\Z)"
    r"|<function[= ][^>\n]*>(?:(?!</function>).)*(?:</function>|\Z)|\[TOOL_CALLS\].*|<\|python_tag\|>.*"
    r"|<[|\uff5c]tool[\u2581_]calls?[\u2581_](?:section[\u2581_])?begin[|\uff5c]>.*)\s*)+"
)
"""A text that only calls tools, in the notation of a model that its server did not read: Hermes and Qwen, Llama,
Mistral, DeepSeek, Kimi."""


def to_openai(messages: Sequence[Message], system: str | None = None) -> list[dict[str, Any]]:
    """A conversation as the field `messages` of a request; pictures are PNG data URLs and go before their text."""
    first = [{"role": "system", "content": system}] if system is not None else []
    return first + [{"role": message.role, "content": _content(message)} for message in messages]


def first_choice(response: Any) -> Mapping[str, Any]:
    """The first choice of a response; empty where there is none."""
    choices = response.get("choices") if isinstance(response, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, Mapping) else {}


def first_message(response: Any) -> Mapping[str, Any] | None:
    """The message of the first choice."""
    message = first_choice(response).get("message")
    return message if isinstance(message, Mapping) else None


def refusal_text(message: Mapping[str, Any]) -> str | None:
    """The text in a message's field for refusals, in a part of its content for them, or where LiteLLM's proxy puts it.

    Many servers send the field with every reply, empty, with another type or with a word for nothing: only other text
    makes a refusal.
    """
    nested = message.get("provider_specific_fields")
    fields = [message.get("refusal"), nested.get("refusal") if isinstance(nested, Mapping) else None]
    # Some gateways write a part or a list of parts there, as in a content.
    inside = message.get("refusal")
    parts = inside if isinstance(inside, list) else [inside]
    fields += [
        part.get("refusal") or part.get("text") or part.get("message") for part in parts if isinstance(part, Mapping)
    ]
    for part in _parts(message.get("content")):
        if part.get("type") == "refusal":
            fields += [part.get("refusal"), part.get("text")]
    return next((value for value in fields if isinstance(value, str) and not NOTHING.fullmatch(value)), None)


def content_text(content: Any) -> str:
    """The text in a message's content, a string, a part or a list of parts; without thoughts; empty where none is."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in _parts(content) if part.get("type") not in {*THOUGHTS, "refusal"}]
    # The Assistants API, and servers in its form, have the text one level below.
    texts = [text.get("value") if isinstance(text, Mapping) else text for text in texts]
    return "\n".join(text for text in texts if isinstance(text, str))


def thought_text(content: Any) -> str:
    """The reasoning among the parts of a message's content; empty where there is none."""
    thoughts = [part for part in _parts(content) if part.get("type") in THOUGHTS]
    return "\n".join(filter(None, (_thought(part) for part in thoughts)))


def reply_text(message: Mapping[str, Any]) -> str:
    """What a message says: its text, or the transcript of what it speaks."""
    text = content_text(message.get("content"))
    audio = message.get("audio")
    spoken = audio.get("transcript") if isinstance(audio, Mapping) else None
    return text if text.strip() or not isinstance(spoken, str) else spoken


def called_tools(message: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the tools that a message calls, in the present form or in that of before 2023."""
    calls = message.get("tool_calls")
    listed = calls if isinstance(calls, list) else []
    functions = [call.get("function") or call for call in listed if isinstance(call, Mapping)]
    functions.append(message.get("function_call"))
    return tuple(str(function.get("name") or "unnamed") for function in functions if isinstance(function, Mapping))


def only_calls(text: str) -> bool:
    """Whether a text only calls tools, so that nothing in it is said to the user."""
    return CALLS.fullmatch(text) is not None


def _parts(content: Any) -> list[Mapping[str, Any]]:
    """The parts of a content; a text among them is a part of text."""
    listed = content if isinstance(content, list) else [content]
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in listed]
    return [part for part in parts if isinstance(part, Mapping)]


def _thought(part: Mapping[str, Any]) -> str:
    # Mistral nests parts of text in `thinking`, Anthropic has a text there, OpenAI's newer API lists `summary`.
    for name in ("thinking", "text", "content", "reasoning", "summary"):
        texts = [part.get("text") for part in _parts(part.get(name))]
        if text := "\n".join(text for text in texts if isinstance(text, str)):
            return text
    return ""


def _content(message: Message) -> str | list[dict[str, Any]]:
    # A plain string where there is no picture: servers of text models may know no other form.
    if not message.images:
        return message.text
    urls = [png_data_url(image.convert("RGB")) for image in message.images]
    return [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": message.text}]
