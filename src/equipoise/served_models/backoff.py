"""Pauses between the tries of one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE: Final = 0.5
"""Seconds before the second try; each further pause is twice as long."""
LONGEST_PAUSE: Final = 60.0
"""Seconds that a pause lasts at most, also where a server asks for more."""


@dataclass
class Backoff:
    """The pauses of one request, in order."""

    pause: float = FIRST_PAUSE
    """Seconds of the next one, where the server asks for none."""

    def seconds(self, retry_after: float | None = None) -> float:
        """The next pause.

        Args:
            retry_after: seconds that the server asked for; they go first.
        """
        # The pause doubles also where the server named one: if its time was too short, the next guess starts from a
        # longer one.
        pause, self.pause = self.pause, min(LONGEST_PAUSE, 2 * self.pause)
        return min(LONGEST_PAUSE, pause if retry_after is None else retry_after)
