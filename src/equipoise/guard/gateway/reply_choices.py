"""The replies of a chat completion: their parts, what is judged of them, and one with other words in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from equipoise.guard.gateway.carried_event import CarriedEvent
from equipoise.guard.gateway.content_parts import SPOKEN, ContentPart, escaped, message_parts, without_blobs
from equipoise.guard.gateway.dialects import is_frame, texts_beside

APART: Final = (*SPOKEN, "server tool")
"""Kinds of parts that are also judged by themselves."""
MOST_CHOICES: Final = 1000
"""Choices of one reply."""


@dataclass(frozen=True)
class ReplyChoice:
    """One reply of several."""

    index: int
    """Its number."""
    parts: tuple[ContentPart, ...]
    """Its parts."""

    @property
    def text(self) -> str:
        """Everything it says, in order: what is judged."""
        return "\n".join(part.text for part in self.parts if part.text)

    @property
    def side_texts(self) -> tuple[str, ...]:
        """Content and reasoning separately, if the choice has more text than that."""
        texts: dict[tuple[str, str], str] = {}
        for part in self.parts:
            # Clients join the parts of one list of content without a break.
            key = (part.kind, root_of(part.path.removeprefix(f"choices/{self.index}/")))
            texts[key] = texts.get(key, "") + part.text
        return side_texts_of(texts, self.text)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its parts."""
        return frozenset(part.kind for part in self.parts)


def side_texts_of(texts: Mapping[tuple[str, str], str], whole: str) -> tuple[str, ...]:
    """The distinct texts that are judged by themselves, beside the whole that they are part of.

    Args:
        texts: by kind and field.
        whole: everything that the choice says.
    """
    spoken = [text for (kind, _), text in texts.items() if kind in APART and text and text != whole]
    return tuple(dict.fromkeys(spoken))


def root_of(path: str) -> str:
    """The field that a part belongs to: `delta/content` for each part of a list of content."""
    return "/".join(path.split("/")[:2])


def parse_reply(body: Mapping[str, Any]) -> list[ReplyChoice]:
    """The replies of a chat completion.

    Raises:
        ValueError: it is none.
    """
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise ValueError("expected choices, a list")
    replies = []
    for at, choice in enumerate(choices):
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if message is None and isinstance(choice, Mapping) and "message" in choice:
            # Of a reply that a server's own filter has blocked.
            message = {}
        if not isinstance(message, Mapping):
            raise ValueError(f"expected a message in choices/{at}")
        path = f"choices/{at}"
        parts = list(message_parts(f"{path}/message", message, "assistant"))
        for name, value in choice.items():
            words = "" if name == "message" or is_frame(name, value) else "\n".join(texts_beside(value))
            if words:
                parts.append(ContentPart(f"{path}/{escaped(name)}", "other text", words))
        replies.append(ReplyChoice(at, tuple(without_blobs(parts))))
    beside = beside_choices(body)
    if beside and not replies:
        raise ValueError("expected a choice")
    if beside:
        # Words beside the choices are judged with the first, which is what most clients show.
        more = [ContentPart(escaped(name), "other text", "\n".join(texts_beside(beside[name]))) for name in beside]
        replies[0] = ReplyChoice(0, (*replies[0].parts, *without_blobs(more)))
    return replies


def beside_choices(body: Mapping[str, Any]) -> dict[str, Any]:
    """Fields beside the choices that hold words and that no completion has by itself."""
    return {
        name: value
        for name, value in body.items()
        if not isinstance(value, CarriedEvent) and not is_frame(name, value) and any(texts_beside(value))
    }


def choice_number(choice: Mapping[str, Any], otherwise: int) -> int:
    """The number of a choice: what a server writes in its place may be words, which nobody judges.

    Args:
        choice: of a reply, or of a chunk.
        otherwise: the number of one that has none.
    """
    index = choice.get("index")
    return index if type(index) is int and 0 <= index < MOST_CHOICES else otherwise


def replaced(
    choice: Mapping[str, Any],
    content: str | None,
    refusal: str | None,
    finish: str,
    at: int = 0,
    *,
    refusal_in: str = "refusal",
) -> dict[str, Any]:
    """A choice with other words: its content, or a refusal; everything else it said is gone.

    Args:
        choice: as the upstream sent it.
        content: what it says instead; None with a refusal.
        refusal: the refusal.
        finish: its finish reason.
        at: its place among the choices, which is its number where it has none.
        refusal_in: the field for the refusal, `refusal` or `content`.
    """
    if refusal is not None and refusal_in == "content":
        content, refusal = refusal, None
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {"index": choice_number(choice, at), "message": message, "logprobs": None, "finish_reason": finish}
