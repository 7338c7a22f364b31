"""Pictures in replies, as other APIs show them.

Chat servers put them into the field `images` of a message (OpenRouter, LiteLLM, Ollama) or into its list of content.
OpenAI's responses have an item for them, `image_generation_call`, which holds base64 alone; Anthropic's messages have
the block `image`, which their clients send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from equipoise.guard.gateway.content_parts import picture_address

_BASE64: Final = re.compile(r"\s*data:(?P<media>[\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,(?P<packed>.*)", re.I | re.S)
_FIRST: Final = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""Media types by the first characters of the base64 of a file."""


def pictures_of(message: Mapping[str, Any]) -> Iterator[str]:
    """The addresses of the pictures in a message or delta, each once: data URLs and links."""
    content, images = message.get("content"), message.get("images")
    parts = content if isinstance(content, list) else ()
    addresses = [
        picture_address(part) for part in parts if isinstance(part, Mapping) and part.get("type") == "image_url"
    ]
    addresses += [picture_address(part) for part in (images if isinstance(images, list) else ())]
    yield from dict.fromkeys(address for address in addresses if address)


def media_of(packed: str, declared: str = "image/png") -> str:
    """The media type of a picture in base64 by its first bytes; what is declared of others."""
    return next((media for first, media in _FIRST.items() if packed.startswith(first)), declared.lower())


def picture_base64(address: str) -> tuple[str, str] | None:
    """The media type and the base64 of a data URL; None of anything else, such as a link."""
    match = _BASE64.fullmatch(address)
    if match is None:
        return None
    packed = "".join(match["packed"].split())
    return media_of(packed, match["media"] or "image/png"), packed


def picture_block(address: str) -> dict[str, Any]:
    """A picture as a block of Anthropic's messages."""
    content = picture_base64(address)
    if content is None:
        return {"type": "image", "source": {"type": "url", "url": address}}
    media, packed = content
    return {"type": "image", "source": {"type": "base64", "media_type": media, "data": packed}}


def picture_item(identity: str, packed: str) -> dict[str, Any]:
    """A picture as an item of a response."""
    return {"id": f"ig_{identity}", "type": "image_generation_call", "status": "completed", "result": packed}


def picture_text(address: str) -> str:
    """A picture that a response cannot hold, a link, as the Markdown of its address."""
    return f"![picture]({address.strip()})"
