"""Untrusted text on a page: control characters made visible, and long texts cut."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

# Embeddings, overrides and isolates turn the reading order of what follows; plain marks (U+200E, U+200F) do not.
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_NOTHING = re.compile("[\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def visible(value: Any) -> Any:
    """Text in which control and direction characters are drawn, not obeyed; anything else as it is.

    HTML drops or refuses NUL and lone surrogates, and a right-to-left override could make a reply read as its
    opposite.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    # Order matters: carriage returns are line ends first, and only what is left of the control characters is drawn, as
    # its symbol of the block U+2400.
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROL.sub(lambda match: chr(0x2400 + ord(match[0])), text)
    text = _TURNING.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)
    return _NOTHING.sub("\N{REPLACEMENT CHARACTER}", text)


@dataclass(frozen=True)
class TextExcerpt:
    """The beginning of a text."""

    text: str
    """What is shown."""
    length: int
    """Characters of the whole text."""

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it."""
        return len(self.text) < self.length


def excerpt(text: str, limit: int) -> TextExcerpt:
    """At most `limit` characters of a text."""
    return TextExcerpt(text[:limit], len(text))


def plain(value: Any) -> str:
    """A value of a recipe in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {plain(part)}" for key, part in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain(part) for part in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # Pixel distances are written as people write them: 8/255.
        levels = value * 255
        return f"{levels:.0f}/255" if 0 < value < 1 and abs(levels - round(levels)) < 1e-9 else f"{value:.6g}"
    return "none" if value is None else str(value)
