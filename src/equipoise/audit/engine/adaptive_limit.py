"""How many requests a server gets at once: fewer when it says that it is busy, slowly more while it keeps up."""

from __future__ import annotations

from typing import Final, Self

import anyio

SHRINK: Final = 0.5
"""The share of the limit that is left after a busy answer."""


class AdaptiveLimit:
    """Additive increase, multiplicative decrease (AIMD), as TCP finds its rate (Chiu and Jain 1989).

    A limit of requests rises by one for each round of as many replies, and is halved by an answer of 429 or 503. It
    begins at the most: a server that keeps up sees no difference to a fixed number. Use it with `async with`, and call
    `grow` or `shrink` with the result.

    Args:
        most: requests at once at most, as the user gave it.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.lowest = most
        """The smallest limit so far."""
        self._limit = float(most)
        self._tokens = anyio.CapacityLimiter(most)
        self._sent = 0
        self._shrunk_at = 0

    @property
    def limit(self) -> int:
        """Requests at once, now; at least one."""
        return int(self._limit)

    async def __aenter__(self) -> Self:
        """Wait until there is room."""
        await self._tokens.acquire()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Make room for the next one."""
        self._tokens.release()

    def begin(self) -> int:
        """Count a request; returns its number, which `shrink` wants."""
        self._sent += 1
        return self._sent

    def grow(self) -> None:
        """A reply came: after as many replies as the limit, the limit is one higher."""
        # 1 / limit for each reply: a round of `limit` replies adds one. Growth is slow on purpose, since each probe
        # above what the server takes costs a refused request.
        self._set(min(float(self.most), self._limit + 1 / self._limit))

    def shrink(self, request: int) -> None:
        """The server was too busy for a request.

        Args:
            request: its number. Of requests that were under way together, one halves the limit: the others say nothing
                new, as they were sent before the limit was lower.
        """
        # All requests in flight meet the same overload. Only the first of them halves the limit; the others were sent
        # before it was halved, and counting them as well would bring the limit to 1 at once.
        if request <= self._shrunk_at:
            return
        self._shrunk_at = self._sent
        self._set(max(1.0, self._limit * SHRINK))
        self.lowest = min(self.lowest, self.limit)

    def _set(self, limit: float) -> None:
        before, self._limit = self.limit, limit
        if self.limit != before:
            # Those that wait are woken where there is more room; those under way are never interrupted.
            self._tokens.total_tokens = self.limit
