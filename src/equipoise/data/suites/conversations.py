"""Reads conversations of several turns from a cell of a table: OpenAI's `messages`, and `conversations` of ShareGPT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from equipoise.data.tables import TableRow
from equipoise.errors import UsageError
from equipoise.types import Role, Turn

ROLES: Final[dict[str, Role]] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
}
"""Who speaks, by the names that data sets use; `system` and `developer` are none of them."""
MARK: Final = "<image>"
"""Where the picture belongs in texts of LLaVA's form; pictures go before the text of their turn."""


@dataclass(frozen=True)
class Conversation:
    """What is sent."""

    text: str
    """Of the last message, which is the user's."""
    earlier: tuple[Turn, ...] = ()
    """The turns before it."""
    system: str | None = None
    """System text."""
    pictures: tuple[Any, ...] = ()
    """Names, addresses or bytes of all pictures, in the order of the turns."""


def read_conversation(cell: Any, row: TableRow) -> Conversation:
    """The conversation in a cell: a list of messages, or JSON of one.

    Args:
        cell: messages with `role` and `content`, or `from` and `value`.
        row: for the messages of errors.

    Raises:
        UsageError: no messages, an unknown role or kind of content, or no message of the user at the end.
    """
    messages = _parsed(cell, row)
    system: list[str] = []
    turns: list[Turn] = []
    pictures: list[Any] = []
    for message in messages:
        if not isinstance(message, Mapping):
            _refuse(row, "an object with role and content", message)
        name = str(message.get("role") or message.get("from") or "").strip().lower()
        text, images = _content(message.get("content", message.get("value")), row)
        if name in ("system", "developer"):
            system.append(text)
            continue
        if name not in ROLES:
            _refuse(row, f"a role of system, {', '.join(ROLES)}", name)
        turns.append(Turn(ROLES[name], text, len(images)))
        pictures += images
    # A set for training ends with the reply that it teaches; here that is what the model shall say.
    if turns and turns[-1].role == "assistant":
        if turns[-1].pictures:
            _refuse(row, "a conversation that ends with a message of the user", "pictures of the assistant")
        turns.pop()
    if not turns or turns[-1].role != "user":
        _refuse(row, "a conversation that ends with a message of the user", "another end")
    return Conversation(turns[-1].text, tuple(turns[:-1]), "\n\n".join(system) or None, tuple(pictures))


def _parsed(cell: Any, row: TableRow) -> list[Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            _refuse(row, "messages as a JSON list", cell)
    if not isinstance(cell, list) or not cell:
        _refuse(row, "messages as a list", cell)
    return list(cell)


def _content(content: Any, row: TableRow) -> tuple[str, list[Any]]:
    """The text and the pictures of a message."""
    if content is None or isinstance(content, str):
        return (content or "").replace(MARK, "").strip("\n"), []
    texts: list[str] = []
    pictures: list[Any] = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(part, str):
            texts.append(part)
        elif kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image_url", "input_image", "image"):
            value = part.get("image_url", part.get("image", part.get("path")))
            pictures.append(value.get("url") if isinstance(value, Mapping) and "url" in value else value)
        else:
            _refuse(row, "text and pictures in a message", kind or part)
    return "\n".join(texts), pictures


def _refuse(row: TableRow, expected: str, got: object) -> NoReturn:
    raise UsageError(
        f'expected {expected}, got {str(got)[:60]!r} in {row.where}; try [{{"role": "user", "content": "..."}}]'
    )
