"""`GuardInput`: the texts that a guard checks, made from an exchange here and from a request's parts in the gateway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.types import Exchange

if TYPE_CHECKING:
    from PIL.Image import Image

PictureReader = Callable[["Image"], str]
"""An 8-bit RGB picture to the text that stands in it; empty where there is none."""


@dataclass(frozen=True)
class GuardInput:
    """A reply with what it answers."""

    response: str
    """What is to be judged; empty where only the request is."""
    question: str = ""
    """What the user asked last."""
    picture_text: str = ""
    """What stands written in the pictures, as far as somebody read it."""
    context: tuple[str, ...] = ()
    """Earlier turns and results of tools, oldest first."""
    images: tuple[Image, ...] = ()
    """The pictures themselves, for those who look at them."""
    side_texts: tuple[str, ...] = ()
    """Parts of the response that are judged by themselves, too: what is said beside them must not thin them out."""

    def request_only(self) -> GuardInput:
        """The request as a text to judge, without a reply."""
        return GuardInput(self.request_text)

    @property
    def request_text(self) -> str:
        """All that was asked, as one text: earlier turns, the question, what stands in its pictures."""
        return "\n".join(text for text in (*self.context, self.question, self.picture_text) if text)

    @classmethod
    def from_exchange(cls, exchange: Exchange, reader: PictureReader | None = None) -> GuardInput:
        """The evidence in an exchange.

        Args:
            exchange: prompt and reply.
            reader: reads the text in pictures; None leaves `picture_text` empty.
        """
        *earlier, last = exchange.prompt.messages
        images = tuple(image for message in exchange.prompt.messages for image in message.images)
        read = [reader(image) for image in images] if reader is not None else []
        return cls(
            response=exchange.reply,
            question=last.text,
            picture_text="\n".join(text for text in read if text),
            context=tuple(message.text for message in earlier),
            images=images,
        )
