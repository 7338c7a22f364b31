"""Messages as OpenAI's chat protocol writes them, and what its responses hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.media.encode import png_data_url
from equipoise.types import Message


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
    """The text in a message's field for refusals, or where LiteLLM's proxy puts it; None where there is none.

    Many servers send the field with every reply, empty or with another type: only text makes a refusal.
    """
    nested = message.get("provider_specific_fields")
    for value in (message.get("refusal"), nested.get("refusal") if isinstance(nested, Mapping) else None):
        if isinstance(value, str) and value.strip():
            return value
    return None


def content_text(content: Any) -> str:
    """The text in a message's content, a string or a list of parts; empty where there is none."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _content(message: Message) -> str | list[dict[str, Any]]:
    # A plain string where there is no picture: servers of text models may know no other form.
    if not message.images:
        return message.text
    urls = [png_data_url(image.convert("RGB")) for image in message.images]
    return [*({"type": "image_url", "image_url": {"url": url}} for url in urls), {"type": "text", "text": message.text}]
