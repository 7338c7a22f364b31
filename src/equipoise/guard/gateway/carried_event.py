"""`CarriedEvent`: a document of another API within a chunk, or a completion, that the chat call judges.

The chat call knows chunks of chats alone. A reader makes of each event of the upstream a chunk that has all its words,
and puts the event itself beside them; the chunk is held back, released or dropped, and the event with it.
"""

from __future__ import annotations

from typing import Any, Final

CARRIED: Final = "equipoise_event"
"""The field of a chunk, or of a completion, that holds the document."""


class CarriedEvent(dict[str, Any]):
    """A document whose words the chunk around it has.

    No JSON of an upstream is read as this class, so none can call itself judged.
    """


class UnreadBytes(str):
    """Stands in a message for bytes that hold no words, such as encrypted results; no JSON is read as this class."""
