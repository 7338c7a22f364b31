"""The body of a chat request: what is read, and the fields that one greedy reply cannot serve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.errors import PictureError
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.picture_decoding import FORMATS
from equipoise.media.decode import DecodeLimits, decode_picture
from equipoise.media.encode import read_data_url
from equipoise.types import Message, Prompt

DEFAULT_TOKENS: Final = 256
"""Tokens of a reply, at most, where the request names no limit."""
MAX_PICTURES: Final = 8
"""Pictures of one request, at most."""
LIMITS: Final = DecodeLimits(max_pixels=2**25, formats=(*FORMATS, "MPO"))
"""What pictures of strangers may be: pixels of one, and of all pictures of a request; phones write MPO."""
PICTURE_BYTES: Final = 20_000_000
"""Bytes of one picture's file, at most."""
UNSUPPORTED: Final[Mapping[str, tuple[Any, ...]]] = {
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "web_search_options": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "n": (None, 1),
    "response_format": (None, {"type": "text"}),
    "audio": (None,),
    "modalities": (None, ["text"]),
}
"""Fields that change what a reply is, each with the values that do not. With another value a request is refused: a
reply that leaves them out would look like one that follows them."""
SYSTEM: Final = ("system", "developer")


@dataclass(frozen=True)
class ReplyRequest:
    """A chat request."""

    prompt: Prompt
    """What the model gets."""
    max_new_tokens: int
    """Tokens of the reply, at most."""
    stop: tuple[str, ...]
    """Texts at whose first occurrence the reply ends, without them."""
    stream: bool
    """Whether the client wants events."""
    include_usage: bool
    """Whether the last event holds the token counts."""
    prompt_tokens: int = 0
    """Tokens of the prompt, once they are counted."""


def read_request(body: Any, most_tokens: int) -> ReplyRequest:
    """The request in a JSON document.

    Args:
        body: as it was decoded.
        most_tokens: limit of the server; a larger one of the request is lowered to it.

    Raises:
        RequestProblem: it is no chat request, or wants what this server does not do.
    """
    if not isinstance(body, dict):
        raise _invalid("expected a JSON object with messages", None)
    for name, harmless in UNSUPPORTED.items():
        if not any(_equal(body.get(name), value) for value in harmless):
            raise RequestProblem(400, f"this server does not support {name}", "unsupported_parameter", param=name)
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise _invalid(f"expected stream: true or false, got {_shown(stream)}", "stream")
    options = body.get("stream_options")
    return ReplyRequest(
        prompt=_prompt(body.get("messages")),
        max_new_tokens=min(_tokens(body, most_tokens), most_tokens),
        stop=_stop(body.get("stop")),
        stream=bool(stream),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _equal(value: Any, expected: Any) -> bool:
    """Whether two JSON values are the same: `true` is not 1, though Python's are equal."""
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)


def cut_at_stop(reply: str, stop: Sequence[str]) -> str:
    """The reply up to the first of the texts."""
    ends = [at for text in stop if (at := reply.find(text)) >= 0]
    return reply[: min(ends)] if ends else reply


def _tokens(body: Mapping[str, Any], most: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _invalid(f"expected {name}: a whole number of at least 1, got {_shown(value)}", name)
        return value
    return min(DEFAULT_TOKENS, most)


def _stop(value: Any) -> tuple[str, ...]:
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise _invalid("expected stop: a text or a list of texts", "stop")
    return tuple(texts)


def _prompt(value: Any) -> Prompt:
    if not isinstance(value, list) or not value:
        raise _invalid("expected messages: a list with at least one message", "messages")
    # Counted before any is opened: each may take a hundred megabytes.
    contents = [one.get("content") for one in value if isinstance(one, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    if sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts) > MAX_PICTURES:
        raise _invalid(f"expected at most {MAX_PICTURES} pictures", "messages")
    system: list[str] = []
    messages: list[Message] = []
    pictures = pixels = 0
    for number, one in enumerate(value):
        where = f"messages[{number}]"
        if not isinstance(one, dict):
            raise _invalid(f"expected an object in {where}", where)
        text, images = _content(_content_of(one), where)
        pictures += len(images)
        if pictures > MAX_PICTURES:
            raise _invalid(f"expected at most {MAX_PICTURES} pictures", where)
        pixels += sum(image.width * image.height for image in images)
        if pixels > LIMITS.max_pixels:
            # Requests that wait keep their pictures in memory.
            raise _invalid(f"expected pictures of at most {LIMITS.max_pixels:,} pixels together, got more", where)
        role = one.get("role")
        if role in SYSTEM:
            if images:
                raise _invalid(f"expected text alone in a system message, got a picture in {where}", where)
            system.append(text)
        elif role == "user" or role == "assistant":
            messages.append(Message(role, text, tuple(images)))
        else:
            roles = "system, developer, user or assistant"
            raise _invalid(f"expected the role {roles} in {where}, got {_shown(role)}", f"{where}.role")
    if not messages or messages[-1].role != "user":
        raise _invalid("expected a last message of the user", "messages")
    return Prompt(tuple(messages), "\n\n".join(text for text in system if text) or None)


def _content_of(message: dict[str, Any]) -> Any:
    """The content of a message; of a refusal that a client sends back the refusal, as it has no content."""
    content, refusal = message.get("content"), message.get("refusal")
    if content is None and message.get("role") == "assistant":
        return refusal if isinstance(refusal, str) else ""
    return content


def _content(value: Any, where: str) -> tuple[str, list[Any]]:
    """The text of a message's content, and its pictures."""
    if isinstance(value, str):
        return _text(value, f"{where}.content"), []
    if not isinstance(value, list):
        raise _invalid(f"expected a text or a list of parts in {where}.content", f"{where}.content")
    texts: list[str] = []
    images = []
    for number, part in enumerate(value):
        path = f"{where}.content[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(_text(part["text"], path))
        elif kind == "image_url":
            images.append(_picture(part.get("image_url"), path))
        else:
            raise _invalid(f"expected a part of type text or image_url in {path}", path)
    return "\n".join(texts), images


def _text(value: str, where: str) -> str:
    """A text that a tokenizer takes: JSON may hold half a surrogate pair, which is no letter."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid(f"expected text in {where}, got half a surrogate pair", where) from None
    return value


def _picture(value: Any, where: str) -> Any:
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or url[:5].lower() != "data:":
        # A server that fetches what strangers name is a way into the network that it stands in.
        raise _invalid(f"expected a picture as a data URL in {where}, as this server fetches no addresses", where)
    try:
        # Encoders by the rules of e-mail break base64 into lines.
        return decode_picture(read_data_url("".join(url.split()), max_bytes=PICTURE_BYTES), "the picture", LIMITS)
    except PictureError as error:
        raise RequestProblem(400, str(error), "invalid_image", param=where) from error


def _shown(value: Any) -> str:
    """A value in a message: as JSON, in ASCII, and short."""
    return json.dumps(value)[:40]


def _invalid(message: str, param: str | None) -> RequestProblem:
    return RequestProblem(400, message, "invalid_request", param=param)
