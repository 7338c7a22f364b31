"""Converts samples to inspect's and back; pictures keep their bytes, and metadata holds all that a scorer needs."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentImage,
    ContentReasoning,
    ContentText,
)
from PIL import Image

from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.errors import UsageError
from equipoise.media.decode import decode_picture, open_picture
from equipoise.media.encode import data_url, png_data_url, read_data_url
from equipoise.types import Message, Picture, Prompt, Sample, Turn

SENT_AS_IS: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
}
"""First bytes of the formats that every server can read; all others are sent as PNG."""
UNTEMPLATED: Final = "equipoise_untemplated"
"""Metadata of a message that no chat template writes."""
TOLD: Final = tuple(f.name for f in fields(Sample) if f.name not in ("pictures", "text", "system", "earlier"))
"""Fields of a `Sample` that stand in the metadata of inspect's; the rest stands in its input."""


def to_reference(picture: Picture) -> str:
    """A picture as inspect takes it: the path of a file that any server reads, or a data URI.

    Raises:
        PictureError: the picture cannot be read.
    """
    path = getattr(picture, "path", None)
    if isinstance(path, Path) and path.is_file() and _kind(_head(path)) == mimetypes.guess_type(path.name)[0]:
        # inspect reads the file when the sample's turn comes, so that a large suite is never in memory as a whole.
        return str(path.resolve())
    return to_data_uri(picture.data())


def to_data_uri(content: bytes) -> str:
    """The file's own bytes where every server can read them, else the same pixels as PNG."""
    kind = _kind(content[:8])
    if kind is None:
        return png_data_url(decode_picture(content, "a picture of a sample"))
    return data_url(content, kind)


def to_inspect(sample: Sample, metadata: dict[str, Any] | None = None) -> InspectSample:
    """A sample of inspect's, its pictures before its text.

    Args:
        sample: the sample.
        metadata: further metadata, such as the key of the sample's row.
    """
    # A sample that cannot be asked may have pictures that cannot be read.
    pictures = () if sample.problem else sample.pictures
    messages: list[ChatMessage] = [ChatMessageSystem(content=sample.system)] if sample.system is not None else []
    # The mark is for models of this process; a server knows no conversation without its template.
    mark = None if sample.templated else {UNTEMPLATED: True}
    remaining = iter(pictures)
    for turn in replace(sample, pictures=tuple(pictures)).turns:
        content: list[Content] = [ContentImage(image=to_reference(p)) for p in islice(remaining, turn.pictures)]
        speak = ChatMessageUser if turn.role == "user" else ChatMessageAssistant
        # A plain string where there is no picture: servers of text models may know no other form.
        messages.append(speak(content=[*content, ContentText(text=turn.text)] if content else turn.text, metadata=mark))
    if sample.prefill:
        # A last message of the assistant is continued: by models of this process, and by servers that can.
        messages.append(ChatMessageAssistant(content=sample.prefill))
    values = {name: getattr(sample, name) for name in TOLD}
    return InspectSample(
        id=sample.id,
        input=messages,
        target=list(sample.reference) or sample.expected,
        metadata={**values, "reference": list(sample.reference), "turns": len(sample.turns), **(metadata or {})},
    )


def to_sample(metadata: dict[str, Any], messages: Sequence[ChatMessage]) -> Sample:
    """The sample that `to_inspect` was given, from a log; its pictures are those of the log.

    Raises:
        UsageError: the metadata is not ours.
    """
    try:
        given = {name: metadata[name] for name in TOLD if name in metadata}
        given["reference"] = tuple(given.get("reference", ()))
        system = [message.text for message in messages if message.role == "system"]
        # What follows the prompt is the reply. Logs of earlier versions hold one turn.
        spoken = [message for message in messages if message.role != "system"][: int(metadata.get("turns", 1))]
        references = [[part.image for part in _parts(m) if isinstance(part, ContentImage)] for m in spoken]
        turns = [
            Turn("user" if message.role == "user" else "assistant", message.text, len(images))
            for message, images in zip(spoken, references, strict=True)
        ]
        pictures = tuple(GeneratedPicture(_bytes(image)) for images in references for image in images)
        text = turns[-1].text if turns else ""
        return Sample(
            text=text, pictures=pictures, system="\n\n".join(system) or None, earlier=tuple(turns[:-1]), **given
        )
    except (TypeError, KeyError) as error:
        raise UsageError(
            f"expected a sample with our metadata (suite, expected, ...), got one without ({error}); "
            "try a log of one of our tasks"
        ) from error


def to_prompt(messages: Sequence[ChatMessage]) -> Prompt:
    """A conversation of inspect's as models in this process take it: the pictures of a turn go before its text.

    A message of the assistant at the end is the beginning of the reply, which the model continues.

    Raises:
        UsageError: tools, audio, video, documents, an unresolved address, or no message of the user at the end.
        PictureError: a picture that cannot be decoded.
    """
    system = [message.text for message in messages if message.role == "system"]
    turns = [_turn(message) for message in messages if message.role != "system"]
    prefill = turns.pop().text if turns and turns[-1].role == "assistant" else ""
    if not turns or turns[-1].role != "user":
        raise UsageError("expected a conversation that ends with a message of the user, got none; try adding one")
    templated = not any((message.metadata or {}).get(UNTEMPLATED) for message in messages)
    return Prompt(tuple(turns), "\n\n".join(system) if system else None, prefill, templated)


def _turn(message: ChatMessage) -> Message:
    if not isinstance(message, ChatMessageUser | ChatMessageAssistant) or getattr(message, "tool_calls", None):
        raise UsageError(f"expected messages without tools, got a {message.role} message; try a task without tools")
    texts: list[str] = []
    pictures: list[Image.Image] = []
    for part in _parts(message):
        if isinstance(part, ContentText):
            texts.append(part.text)
        elif isinstance(part, ContentImage):
            pictures.append(_open(part.image))
        elif not isinstance(part, ContentReasoning):
            raise UsageError(f"expected text and pictures, got {part.type}; try a task without it")
    return Message("user" if message.role == "user" else "assistant", "\n".join(texts), tuple(pictures))


def _parts(message: ChatMessage) -> list[Content]:
    return [ContentText(text=message.content)] if isinstance(message.content, str) else list(message.content)


def _open(reference: str) -> Image.Image:
    if reference.startswith("data:"):
        return decode_picture(_bytes(reference), "a data URI")
    if "://" in reference:
        raise UsageError(f"expected a picture as a data URI or file, got {reference[:80]}; try downloading it first")
    return open_picture(reference)


def _bytes(reference: str) -> bytes:
    """The file behind a data URI or path; empty where a log holds only a place-holder."""
    if not reference.startswith("data:"):
        path = Path(reference)
        return path.read_bytes() if path.is_file() else b""
    return read_data_url(reference)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _kind(head: bytes) -> str | None:
    return next((kind for start, kind in SENT_AS_IS.items() if head.startswith(start)), None)
