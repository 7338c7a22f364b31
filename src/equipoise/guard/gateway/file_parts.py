"""Files and sound in requests: plain text is read, and everything else is something that nobody here can read."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

FILES: Final = frozenset(
    {"file", "input_file", "document", "container_upload", "input_audio", "audio", "audio_url", "video", "video_url"}
    | {"input_video", "video_file"}
)
"""Types of parts that are files or sound: OpenAI's, Anthropic's, vLLM's, Google's and others'."""
_PDF: Final = b"%PDF-"
_HEADER: Final = 1024
"""Bytes at the beginning of a file among which readers look for the mark of a PDF."""
_SILENT: Final = frozenset({"file_data", "data", "type", "format", "media_type", "file_id"})
"""Fields of a part that hold the file, or say what and where it is."""
_BASE64: Final = re.compile(r"(?:(?i:data):[^,]{0,300};(?i:base64),)?(?P<packed>[A-Za-z0-9+/\s]++={0,2})")
"""Matched without blanks around it: with them each blank could belong to either of two parts."""
_CONTROL: Final = re.compile(r"[^\t\n\r\f\x20-\x7e\x80-\U0010ffff]")


def file_words(part: Mapping[str, Any]) -> str | None:
    """The words of a part that is a file of plain text, behind those that stand beside it; None of any other file.

    Args:
        part: of content, of one of the types `FILES`.
    """
    packed = _packed(part)
    text = None if packed is None else plain_text(packed)
    return None if text is None else "\n".join([*words_beside(part), text])


def words_beside(part: Mapping[str, Any]) -> list[str]:
    """Every text of a part but the file itself: its name, title and context, and fields that nobody knows."""
    return list(_words(part))


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if name not in _SILENT or not isinstance(item, str):
                yield from _words(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def plain_text(packed: str) -> str | None:
    """The text in base64, or in a data URL of base64; None of anything else.

    What the file calls itself counts for nothing, since the bytes decide how the upstream reads it.
    """
    match = _BASE64.fullmatch(packed.strip())
    if match is None:
        return None
    try:
        content = base64.b64decode("".join(match["packed"].split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    if not content or _PDF in content[:_HEADER]:
        return None
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _packed(part: Mapping[str, Any]) -> str | None:
    """The base64 of a file, as chats, responses and messages hold it; None where it stands elsewhere."""
    holders = [part, *(value for value in part.values() if isinstance(value, Mapping))]
    packed = [text for holder in holders for text in _texts(holder)]
    elsewhere = any(holder.get(name) for holder in holders for name in ("file_id", "file_url", "url"))
    return packed[0] if len(packed) == 1 and not elsewhere else None


def _texts(holder: Mapping[str, Any]) -> Iterator[str]:
    for name in ("file_data", "data"):
        if isinstance(holder.get(name), str):
            yield holder[name]


def chat_file(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A file of another API as parts of a chat: plain text as text, which every server reads; others as a file."""
    words = file_words(part)
    if words is not None:
        return [{"type": "text", "text": words}]
    source = part.get("source") if isinstance(part.get("source"), Mapping) else part
    assert isinstance(source, Mapping)
    file = {name: source[name] for name in ("file_id", "file_url", "file_data") if source.get(name)}
    if isinstance(source.get("data"), str):
        file["file_data"] = f"data:{source.get('media_type')};base64,{source['data']}"
    if source.get("type") == "url" and source.get("url"):
        file["file_url"] = source["url"]
    name = part.get("filename") or part.get("title")
    if isinstance(name, str) and name:
        file["filename"] = name
    elif "file_data" in file:
        file["filename"] = "document.pdf"
    context = part.get("context")
    beside = [{"type": "text", "text": context}] if isinstance(context, str) and context else []
    return [*beside, {"type": "file", "file": file}]
