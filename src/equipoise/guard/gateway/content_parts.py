"""What a chat request and its replies are made of: every part that could carry words, pictures or sound.

Fields that OpenAI's API does not know are read as text: the words in them are judged with the rest, and the field is
passed on. A part of content whose type is unknown is nothing that anybody here can look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from equipoise.guard.gateway.blobs import read
from equipoise.guard.guard_input import GuardInput

OPERATOR: Final = frozenset({"system", "developer"})
TOOLS: Final = frozenset({"tool", "function"})
SILENT: Final = frozenset({"role", "tool_call_id", "id", "type", "index", "object", "finish_reason", "logprobs"})
"""Fields that hold no words for people."""
FRAME: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "prompt_logprobs"}
    | {"prompt_token_ids", "kv_transfer_params", "timings", "request_id", "obfuscation"}
)
"""Fields of a completion, or of a chunk of one, that hold nothing a model said."""
SPOKEN: Final = ("text", "reasoning")
"""Kinds of parts that people read as running text."""
PICTURES: Final = ("picture", "embedded picture")
"""Kinds of parts that are pictures, or called so."""
DETAILS: Final = frozenset({"low", "high", "auto", "original"})
"""What stands beside a picture's address in OpenAI's API and says nothing."""
REASONING: Final = ("reasoning_content", "reasoning", "reasoning_details", "thinking")


@dataclass(frozen=True)
class ContentPart:
    """One part."""

    place: str
    """Where it stands."""
    kind: str
    """`text`, `instruction` (of the operator), `tool call`, `tool result`, `reasoning`, `refusal`, `name`, `picture`,
    `setting`, `other text`, or `unsupported`; of what stands in a text and holds no words `embedded picture` or
    `opaque`."""
    text: str = ""
    """Its words."""
    url: str = ""
    """Of a picture."""


@dataclass(frozen=True)
class ChatRequest:
    """A chat request's parts."""

    surfaces: tuple[ContentPart, ...]
    """In order."""
    last_user: int
    """The message that asks; -1 where none does."""

    @property
    def pictures(self) -> tuple[ContentPart, ...]:
        """Its pictures."""
        return tuple(each for each in self.surfaces if each.kind == "picture")

    def evidence(self, picture_text: str = "", response: str = "", apart: tuple[str, ...] = ()) -> GuardInput:
        """What a guard looks at: the last question, the words in pictures, and earlier turns but the operator's."""
        asking = f"messages/{self.last_user}/"
        words = [each for each in self.surfaces if each.text and each.kind not in ("instruction", "setting")]
        question = [each.text for each in words if each.place.startswith(asking)]
        context = [each.text for each in words if not each.place.startswith(asking)]
        return GuardInput(response, "\n".join(question), picture_text, tuple(context), apart=apart)


def parse_request(body: Mapping[str, Any]) -> ChatRequest:
    """The parts of a chat request.

    Raises:
        ValueError: it is none; the message says what was expected.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("expected messages, a list that is not empty")
    surfaces: list[ContentPart] = []
    last = -1
    for at, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"expected an object in messages/{at}, got {type(message).__name__}")
        role = message.get("role")
        if not isinstance(role, str):
            raise ValueError(f"expected a role in messages/{at}")
        last = at if role == "user" else last
        surfaces += apart_from_blobs(_message(f"messages/{at}", message, role))
    for name in ("tools", "functions", "response_format", "prediction"):
        words = words_in(body.get(name))
        if words:
            # Not judged, so nothing has to be taken out of them.
            surfaces.append(ContentPart(name, "setting", words))
    return ChatRequest(tuple(surfaces), last)


def apart_from_blobs(surfaces: Iterable[ContentPart]) -> Iterator[ContentPart]:
    """Parts without the pictures and other bytes in their words, which become parts of their own."""
    for surface in surfaces:
        if surface.kind in ("setting", "instruction") or not surface.text:
            yield surface
            continue
        found = read(surface.text)
        yield replace(surface, text=found.words)
        for kind in ("picture", "opaque"):
            if any(blob.kind == kind for blob in found.blobs) and surface.kind not in PICTURES:
                # No field's name has such a place: a ~ in a name is escaped.
                yield ContentPart(f"{surface.place}~{kind}", "embedded picture" if kind == "picture" else kind)


def _message(place: str, message: Mapping[str, Any], role: str) -> Iterator[ContentPart]:
    kind = "instruction" if role in OPERATOR else "tool result" if role in TOOLS else "text"
    for name, value in message.items():
        where = f"{place}/{_escaped(name)}"
        if value is None or name in SILENT:
            continue
        if name == "content":
            yield from _content(where, value, kind)
        elif name == "tool_calls" and isinstance(value, list):
            for at, call in enumerate(value):
                yield ContentPart(f"{where}/{at}", "tool call", words_in(call))
        elif name == "images" and isinstance(value, list):
            for at, part in enumerate(value):
                yield from _image(f"{where}/{at}", part)
        elif name == "audio":
            yield ContentPart(where, "unsupported")
        else:
            words = words_in(value)
            if words:
                yield ContentPart(where, _kind(name), words)


def _escaped(name: str) -> str:
    """A field's name within a place; a slash in it as in a JSON pointer, so that no two parts have one place."""
    return name.replace("~", "~0").replace("/", "~1")


def _kind(name: str) -> str:
    if name in REASONING:
        return "reasoning"
    return {"function_call": "tool call", "refusal": "refusal", "name": "name"}.get(name, "other text")


def _content(place: str, value: Any, kind: str) -> Iterator[ContentPart]:
    if isinstance(value, str):
        yield ContentPart(place, kind, value)
        return
    if not isinstance(value, list):
        yield ContentPart(place, "unsupported", words_in(value))
        return
    for at, part in enumerate(value):
        yield from _part(f"{place}/{at}", part, kind)


def _part(place: str, part: Any, kind: str) -> Iterator[ContentPart]:
    if isinstance(part, str):
        yield ContentPart(place, kind, part)
        return
    sort = part.get("type") if isinstance(part, Mapping) else None
    if sort in ("text", "refusal") and isinstance(part.get(sort), str):
        # Whatever else the part holds is read, too.
        yield ContentPart(place, kind if sort == "text" else "refusal", words_in(part))
    elif sort == "image_url" and _url(part) is not None:
        yield from _image(place, part)
    else:
        yield ContentPart(place, "unsupported")


def _url(part: Mapping[str, Any]) -> str | None:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else None


def _image(place: str, part: Any) -> Iterator[ContentPart]:
    """A picture as chat messages hold it, and whatever words stand beside its address."""
    url = _url(part) if isinstance(part, Mapping) else None
    if url is None:
        words = words_in(part)
        if words:
            yield ContentPart(place, "other text", words)
        return
    # What its address says is judged, too: not everything that is called a picture is one.
    yield ContentPart(place, "picture", url, url)
    rest = [word for word in _words(part) if word != url and word not in DETAILS]
    if rest:
        yield ContentPart(f"{place}~beside", "other text", "\n".join(rest))


def words_in(value: Any) -> str:
    """All words in a value, a line each."""
    return "\n".join(_words(value))


def _words(value: Any) -> Iterator[str]:
    """All words in a value, keys of objects left out; those of numbers and truth values too: they may be arguments."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            if name not in SILENT or isinstance(each, Mapping | list):
                yield from _words(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _words(each)
    elif value is not None:
        yield str(value)


@dataclass(frozen=True)
class ReplyChoice:
    """One reply of several."""

    index: int
    """Its number."""
    surfaces: tuple[ContentPart, ...]
    """Its parts."""

    @property
    def text(self) -> str:
        """Everything it says, in order: what is judged."""
        return "\n".join(each.text for each in self.surfaces if each.text)

    @property
    def apart(self) -> tuple[str, ...]:
        """What it says in each way that people read, where it says more than that."""
        texts = {kind: "\n".join(each.text for each in self.surfaces if each.kind == kind) for kind in SPOKEN}
        return by_themselves(texts, self.text)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its parts."""
        return frozenset(each.kind for each in self.surfaces)


def by_themselves(texts: Mapping[str, str], whole: str) -> tuple[str, ...]:
    """The texts, by kind, that are judged by themselves, beside the whole that they are part of."""
    return tuple(texts[kind] for kind in SPOKEN if texts.get(kind) and texts[kind] != whole)


def parse_reply(body: Mapping[str, Any]) -> list[ReplyChoice]:
    """The replies of a chat completion.

    Raises:
        ValueError: it is none.
    """
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise ValueError("expected choices, a list")
    found = []
    for at, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(message, Mapping):
            raise ValueError(f"expected a message in choices/{at}")
        place = f"choices/{at}"
        surfaces = list(_message(f"{place}/message", message, "assistant"))
        for name, value in choice.items():
            words = "" if name == "message" or name in SILENT else words_in(value)
            if words:
                surfaces.append(ContentPart(f"{place}/{_escaped(name)}", "other text", words))
        found.append(ReplyChoice(at, tuple(apart_from_blobs(surfaces))))
    beside = beside_choices(body)
    if beside and not found:
        raise ValueError("expected a choice")
    if beside:
        # Words beside the choices are judged with the first, which is what most clients show.
        more = [ContentPart(_escaped(name), "other text", words_in(beside[name])) for name in beside]
        found[0] = ReplyChoice(0, (*found[0].surfaces, *apart_from_blobs(more)))
    return found


def beside_choices(body: Mapping[str, Any]) -> dict[str, Any]:
    """Fields beside the choices that hold words and that no completion has by itself."""
    return {name: value for name, value in body.items() if name not in FRAME and any(_words(value))}


def words_of(choice: Mapping[str, Any]) -> list[ContentPart]:
    """The parts of one streamed piece of a choice, as they stand; places are within the choice."""
    delta = choice.get("delta")
    surfaces = list(_message("delta", delta, "assistant")) if isinstance(delta, Mapping) else []
    if delta is not None and not isinstance(delta, Mapping):
        surfaces.append(ContentPart("delta", "unsupported", words_in(delta)))
    for name, value in choice.items():
        words = "" if name == "delta" or name in SILENT else words_in(value)
        if words:
            surfaces.append(ContentPart(_escaped(name), "other text", words))
    return surfaces


def replaced(choice: Mapping[str, Any], content: str | None, refusal: str | None, finish: str) -> dict[str, Any]:
    """A choice with other words: its content, or a refusal in the field for it; everything else it said is gone.

    Args:
        choice: as the upstream sent it.
        content: what it says instead; None with a refusal.
        refusal: the refusal.
        finish: its finish reason.
    """
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": choice.get("index", 0), "message": message, "logprobs": None, "finish_reason": finish}
