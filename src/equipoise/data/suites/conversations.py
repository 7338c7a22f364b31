"""Reads conversations of several turns from a cell of a table: OpenAI's `messages`, and `conversations` of ShareGPT."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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
AT_AN_END: Final = re.compile(r"\A\s*<image>\s*|\s*<image>\s*\Z|(?m:^[ \t]*<image>[ \t]*\n)")
"""A mark that stands for a picture even where no picture is there: at an end, or on a line of its own. In the middle
of a sentence it may be what the sentence is about, an element of SVG."""
NUMBERED: Final = re.compile(r"<image[ _]?(\d{1,2})>")
"""A mark with the number of the picture that it stands for."""
PLACE: Final = object()
"""A picture whose name stands in another column."""


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


def read_text(text: str, given: Sequence[Any]) -> Conversation:
    """A text with its pictures; a mark of a picture that is not there gets None in its place."""
    text, places = _without_marks(text, anywhere=bool(given))
    return Conversation(text, pictures=_filled(places, given))


def read_conversation(cell: Any, row: TableRow, given: Sequence[Any] = ()) -> Conversation:
    """The conversation in a cell: a list of messages, or JSON of one.

    Args:
        cell: messages with `role` and `content`, or `from` and `value`.
        row: for the messages of errors.
        given: pictures of another column: they go to the marks and to the parts of a message that name none, in order,
            what is left to the last message. A place for which none is left gets None.

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
        text, images = _content(message.get("content", message.get("value")), row, anywhere=bool(given))
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
    return Conversation(turns[-1].text, tuple(turns[:-1]), "\n\n".join(system) or None, _filled(pictures, given))


def _parsed(cell: Any, row: TableRow) -> list[Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            _refuse(row, "messages as a JSON list", cell)
    if not isinstance(cell, list) or not cell:
        _refuse(row, "messages as a list", cell)
    return list(cell)


def _without_marks(text: str, *, anywhere: bool) -> tuple[str, list[Any]]:
    """A text without its marks, and a place for each; in a sentence `<image 2>` becomes words."""
    numbers = dict.fromkeys(match[1] for match in NUMBERED.finditer(text))
    if numbers:
        ends = re.sub(rf"\A\s*(?:{NUMBERED.pattern}\s*)+|(?:\s*{NUMBERED.pattern})+\s*\Z", "", text)
        text, others = _without_marks(NUMBERED.sub(r"image \1", ends), anywhere=anywhere)
        return text, [PLACE] * len(numbers) + others
    if anywhere:
        return text.replace(MARK, "").strip("\n"), [PLACE] * text.count(MARK)
    places: list[Any] = []
    while match := AT_AN_END.search(text):
        text = text[: match.start()] + text[match.end() :]
        places.append(PLACE)
    return text, places


def _filled(pictures: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
    rest = iter(given)
    return (*(next(rest, None) if picture is PLACE else picture for picture in pictures), *rest)


def _content(content: Any, row: TableRow, *, anywhere: bool) -> tuple[str, list[Any]]:
    """The text and the pictures of a message."""
    if content is None or isinstance(content, str):
        text, places = _without_marks(content or "", anywhere=anywhere)
        return text.strip("\n"), places
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
            value = value.get("url") if isinstance(value, Mapping) and "url" in value else value
            pictures.append(PLACE if value is None else value)
        else:
            _refuse(row, "text and pictures in a message", kind or part)
    return "\n".join(texts), pictures


def _refuse(row: TableRow, expected: str, got: object) -> NoReturn:
    raise UsageError(
        f'expected {expected}, got {str(got)[:60]!r} in {row.where}; try [{{"role": "user", "content": "..."}}]'
    )
