"""`has_too_many_nodes`: whether a JSON text holds more values than a request needs, counted before it is parsed.

Parsing takes a time and a memory that grow with the number of values: some megabytes of empty lists are millions of
them. Python's parser lets no other thread work meanwhile.
"""

from __future__ import annotations

from typing import Final

MOST_NODES: Final = 200_000
"""Values and names of one request; a conversation of a thousand turns has about ten thousand."""


def has_too_many_nodes(text: str, most: int = MOST_NODES) -> bool:
    """Whether a text has more values, or more names of fields, than that.

    Args:
        text: JSON; of other text the answer says nothing.
        most: values, and names.
    """
    if len(text) <= most:
        return False
    # Without escaped quotes every second piece between two quotes lies outside of strings.
    bare = text.replace("\\\\", "").replace('\\"', "") if "\\" in text else text
    if bare.count('"') > 2 * most:
        return True
    return sum(piece.count(",") + piece.count("[") + piece.count("{") for piece in bare.split('"')[::2]) > most
