"""The parts of a chat request and of its replies: everything that could carry text, pictures or audio.

Fields that OpenAI's API does not define are read as text: they are judged with the rest and passed on. A part of
content with an unknown type is `unsupported`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from equipoise.guard.gateway.blobs import read
from equipoise.guard.gateway.carried_event import UnreadBytes
from equipoise.guard.gateway.dialects import (
    CONTENT_FIELDS,
    CONTENT_KINDS,
    FREE,
    REASONING,
    is_frame,
    is_prose,
    is_sentence,
    is_wordless,
)
from equipoise.guard.gateway.file_parts import FILES, file_words, words_beside
from equipoise.guard.gateway.request_fields import OPERATORS, is_voice, setting_words
from equipoise.guard.guard_input import GuardInput

OPERATOR_ROLES: Final = frozenset({"system", "developer"})
TOOL_ROLES: Final = frozenset({"tool", "function"})
SPOKEN: Final = ("text", "reasoning")
"""Kinds of parts that people read as running text."""
SERVER_TOOL: Final = "server_tool."
"""What the names of fields begin with that hold what one tool of the server's was asked and answered."""
PICTURES: Final = ("picture", "embedded picture")
"""Kinds of parts that are pictures, or called so."""
_HAS_SCHEME: Final = re.compile(r"\s*(data|https?):", re.IGNORECASE)
MOST_PARTS: Final = 10_000
"""Parts of one request: each has a receipt in the record."""
LONGEST_NAME: Final = 128
"""Characters of a field's name that stands in paths as it is."""
CUT_NAME: Final = 64
"""Characters that are kept of a longer one."""
FIELDS: Final = "request"
"""What the paths of fields beside the messages begin with."""
DETAILS: Final = frozenset({"low", "high", "auto", "original"})
"""What stands beside a picture's address in OpenAI's API and says nothing."""


@dataclass(frozen=True)
class ContentPart:
    """One part."""

    path: str
    """Where it stands."""
    kind: str
    """`text`, `instruction` (of the operator), `tool call`, `tool result`, `reasoning`, `refusal`, `name`, `picture`,
    `setting`, `server tool`, `other text`, `file`, or `unsupported`; of what stands in a text and holds no words
    `embedded picture` or `opaque`."""
    text: str = ""
    """Its words."""
    url: str = ""
    """Of a picture."""


@dataclass(frozen=True)
class ChatRequest:
    """A chat request's parts."""

    parts: tuple[ContentPart, ...]
    """In order."""
    last_user: int
    """The message that asks; -1 where none does."""

    @property
    def pictures(self) -> tuple[ContentPart, ...]:
        """Its pictures."""
        return tuple(part for part in self.parts if part.kind == "picture")

    def guard_input(self, picture_text: str = "", response: str = "", side_texts: tuple[str, ...] = ()) -> GuardInput:
        """What a guard looks at: the last question, the words in pictures, and earlier turns but the operator's."""
        last_turn = f"messages/{self.last_user}/"
        words = [part for part in self.parts if part.text and part.kind not in ("instruction", "setting")]
        question = [part.text for part in words if part.path.startswith(last_turn)]
        context = [part.text for part in words if not part.path.startswith(last_turn)]
        return GuardInput(response, "\n".join(question), picture_text, tuple(context), side_texts=side_texts)


def parse_request(body: Mapping[str, Any]) -> ChatRequest:
    """The parts of a chat request.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("expected messages, a list that is not empty")
    parts: list[ContentPart] = []
    last = -1
    for at, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"expected an object in messages/{at}, got {type(message).__name__}")
        role = message.get("role")
        if not isinstance(role, str):
            raise ValueError(f"expected a role in messages/{at}")
        last = at if role == "user" else last
        parts += without_blobs(message_parts(f"messages/{at}", message, role))
        if len(parts) > MOST_PARTS:
            raise ValueError(f"expected at most {MOST_PARTS} parts in all messages")
    parts += without_blobs(_fields(body))
    if len(parts) > MOST_PARTS:
        raise ValueError(f"expected at most {MOST_PARTS} parts in all messages and fields")
    return ChatRequest(tuple(parts), last)


def _fields(body: Mapping[str, Any]) -> Iterator[ContentPart]:
    """The parts of the fields beside the messages.

    Their paths begin with `request`, so that none is that of a field of a reply.
    """
    for name, value in body.items():
        path = f"{FIELDS}/{escaped(name)}"
        if name in OPERATORS:
            words = words_in(value)
            if words:
                yield ContentPart(name, "setting", words)
        elif name == "images" and isinstance(value, list):
            for at, part in enumerate(value):
                yield from _image(f"{path}/{at}", part)
        elif name == "audio" and value and not is_voice(value):
            yield ContentPart(path, "file")
        elif name != "messages":
            words = setting_words(name, value)
            if words:
                yield ContentPart(path, "other text", words)


def without_blobs(parts: Iterable[ContentPart]) -> Iterator[ContentPart]:
    """Parts without the pictures and other bytes in their words, which become parts of their own."""
    for part in parts:
        if part.kind in ("setting", "instruction") or not part.text:
            yield part
            continue
        content = read(part.text)
        yield replace(part, text=content.words)
        for kind in ("picture", "opaque"):
            if any(blob.kind == kind for blob in content.blobs) and part.kind not in PICTURES:
                # No field's name has such a path: a ~ in a name is escaped.
                yield ContentPart(f"{part.path}~{kind}", "embedded picture" if kind == "picture" else kind)


def message_parts(path: str, message: Mapping[str, Any], role: str) -> Iterator[ContentPart]:
    """The parts of one message.

    Args:
        path: of the message.
        message: of a request or a reply, or a delta.
        role: who says it.
    """
    kind = "instruction" if role in OPERATOR_ROLES else "tool result" if role in TOOL_ROLES else "text"
    for name, value in message.items():
        where = f"{path}/{escaped(name)}"
        if value is None or is_wordless(name, value) or (name == "logprobs" and is_frame(name, value)):
            continue
        if isinstance(value, UnreadBytes):
            yield ContentPart(where, "opaque")
        elif name == "content":
            yield from _content(where, value, kind)
        elif name == "tool_calls" and isinstance(value, list):
            for at, call in enumerate(value):
                yield ContentPart(f"{where}/{at}", "tool call", words_in_call(call))
        elif name == "images" and isinstance(value, list):
            for at, part in enumerate(value):
                yield from _image(f"{where}/{at}", part)
        elif name == "audio" and value:
            yield ContentPart(where, "file")
        else:
            sort = _kind(name)
            # Numbers may be the arguments of a tool; elsewhere (token ids, places of a source) they are no words.
            words = words_in_call(value) if sort == "tool call" else _field_words(name, value)
            if words:
                yield ContentPart(where, sort, words)


def _field_words(name: str, value: Any) -> str:
    """The words of a field; of OpenRouter's `reasoning_details` without their formats, where these are one word."""
    if name == "reasoning_details" and isinstance(value, list):
        value = [
            {name: word for name, word in item.items() if name != "format" or not _is_name(word)}
            if isinstance(item, Mapping)
            else item
            for item in value
        ]
    return "\n".join(_words(value, scalars=False))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and not is_sentence(value)


def escaped(name: str) -> str:
    """A field's name within a path; a slash in it as in a JSON pointer, so that no two parts have one path.

    A long name is cut, as paths stand in the record, and its hash tells it from others that begin alike.
    """
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{escaped(name[:CUT_NAME])}~cut-{digest[:16]}"
    return name.replace("~", "~0").replace("/", "~1")


def _kind(name: str) -> str:
    if name in REASONING:
        return "reasoning"
    kinds = {"function_call": "tool call", "tool_calls": "tool call", "refusal": "refusal", "name": "name"}
    return kinds.get(name, "server tool" if name.startswith(SERVER_TOOL) else "other text")


def _content(path: str, value: Any, kind: str) -> Iterator[ContentPart]:
    if isinstance(value, str):
        yield ContentPart(path, kind, value)
        return
    if not isinstance(value, list):
        yield ContentPart(path, "unsupported", words_in(value))
        return
    for at, part in enumerate(value):
        yield from _part(f"{path}/{at}", part, kind)


def _part(path: str, part: Any, kind: str) -> Iterator[ContentPart]:
    if isinstance(part, str):
        yield ContentPart(path, kind, part)
        return
    sort = part.get("type") if isinstance(part, Mapping) else None
    sort = sort if isinstance(sort, str) else ""
    if sort in CONTENT_KINDS and _is_readable(part):
        # Whatever else the part holds is read, too.
        what = CONTENT_KINDS[sort]
        yield ContentPart(path, kind if what == "text" else what, "\n".join(_words(part, scalars=False)))
    elif sort == "image_url" and _url(part) is not None:
        yield from _image(path, part)
    elif sort in FILES:
        yield from _file(path, part, kind)
    else:
        yield ContentPart(path, "unsupported")


def _file(path: str, part: Mapping[str, Any], kind: str) -> Iterator[ContentPart]:
    """A file: the words of plain text, or what stands beside one that nobody reads."""
    words = file_words(part)
    if words is not None:
        yield ContentPart(path, kind, words)
        return
    yield ContentPart(path, "file")
    beside = "\n".join(words_beside(part))
    if beside:
        yield ContentPart(f"{path}~beside", "other text", beside)


def _is_readable(part: Mapping[str, Any]) -> bool:
    """Whether the field that the part's type is about holds text, or a list of parts that do."""
    values = [part[name] for name in CONTENT_FIELDS if name in part]
    return all(value is None or isinstance(value, str) or _all_text(value) for value in values) and (
        bool(values) or CONTENT_KINDS[part["type"]] in ("other text", "reasoning")
    )


def _all_text(parts: Any) -> bool:
    return isinstance(parts, list) and all(
        isinstance(part, str) or (isinstance(part, Mapping) and part.get("type", "text") in CONTENT_KINDS)
        for part in parts
    )


def _url(part: Mapping[str, Any]) -> str | None:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else None


def picture_address(part: Any) -> str | None:
    """The address of a picture as chat messages hold it; None where there is none."""
    if isinstance(part, str):
        # Ollama's field `images` holds plain base64.
        return part if _HAS_SCHEME.match(part) else f"data:image/png;base64,{part}"
    return _url(part) if isinstance(part, Mapping) else None


def _image(path: str, part: Any) -> Iterator[ContentPart]:
    """A picture as chat messages hold it, and whatever words stand beside its address."""
    url = picture_address(part)
    if isinstance(part, str):
        yield ContentPart(path, "picture", part, url or "")
        return
    if url is None:
        words = words_in(part)
        if words:
            yield ContentPart(path, "other text", words)
        return
    # What its address says is judged, too: not everything that is called a picture is one.
    yield ContentPart(path, "picture", url, url)
    rest = [word for word in _words(part) if word != url and word not in DETAILS]
    if rest:
        yield ContentPart(f"{path}~beside", "other text", "\n".join(rest))


def words_in(value: Any) -> str:
    """All words in a value, one per line."""
    return "\n".join(_words(value))


def all_words_in(value: Any) -> str:
    """The same where no name says that a field holds no text."""
    return "\n".join(_words(value, free=True))


def words_in_call(call: Any) -> str:
    """The same of a tool's call.

    The names within its arguments are the model's own: none of them says that a field holds no text.
    """
    return "\n".join(_words(call, free_below=FREE))


def _words(
    value: Any, *, scalars: bool = True, free: bool = False, free_below: frozenset[str] = frozenset()
) -> Iterator[str]:
    """All words in a value; the key of an object counts only if it is more than a name.

    Args:
        value: of JSON.
        scalars: whether numbers and truth values count: they may be the arguments of a tool.
        free: whether its names are the model's own, so that also a field `id` or `type` may hold text.
        free_below: fields below which they are.
    """
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if is_prose(name):
                yield name
            if free or not is_wordless(name, item):
                yield from _words(item, scalars=scalars, free=free or name in free_below, free_below=free_below)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _words(item, scalars=scalars, free=free, free_below=free_below)
    elif value is not None and scalars:
        yield str(value)
