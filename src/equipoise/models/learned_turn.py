"""`LearnedTurn`: a question with the reply to learn. Apart from what packs it, so that suites need no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LearnedTurn:
    """A question and the reply to learn."""

    question: str
    """In any wording."""
    reply: str
    """Without the end token."""
    ends: bool = True
    """Whether the reply ends here; a reply that was cut off teaches no end."""
    weight: float = 1.0
    """Of the reply's tokens in the loss."""
    spelled: str | None = None
    """A word of the reply that is learned letter by letter, one token each; the text stays the same."""
