"""`BodyBudget`: bounds the bytes of all requests whose bodies are still on their way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from equipoise.guard.bounded_executor import CLIENT, SHARE
from equipoise.guard.gateway.errors import RequestProblem

MOST_BYTES: Final = 1_000_000_000
"""Of all bodies that are not complete yet."""


class HeldBody:
    """What is held of one body.

    Args:
        budget: of all bodies.
        client: whose request it is.
    """

    def __init__(self, budget: BodyBudget, client: str) -> None:
        self._budget, self._client = budget, client
        self.size = 0
        """Bytes so far."""

    def take(self, size: int) -> None:
        """Count further bytes.

        Raises:
            RequestProblem: there is no room for them.
        """
        self.size += size
        self._budget.change(self._client, size)
        if (problem := self._budget.problem(self._client)) is not None:
            raise problem


class BodyBudget:
    """The bytes of all bodies that are on their way.

    Args:
        most: bytes of all; one client may hold three quarters of them.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._share = math.ceil(most * SHARE)
        self._held: Counter[str] = Counter()

    @contextmanager
    def body(self) -> Iterator[HeldBody]:
        """One body of the client that the request is for; nothing of it is counted afterwards."""
        client = CLIENT.get()
        held = HeldBody(self, client)
        try:
            yield held
        finally:
            self.change(client, -held.size)

    def change(self, client: str, size: int) -> None:
        """Count bytes of a client, or count them out."""
        self._held[client] += size
        if not self._held[client]:
            del self._held[client]

    def problem(self, client: str) -> RequestProblem | None:
        """The error of a client for whose bytes there is no room; None where there is."""
        later = {"retry-after": "1", "connection": "close"}
        if self._held.total() > self._most:
            message = "too many bytes of requests are on their way; try again later"
            return RequestProblem(503, message, "overloaded", later)
        if self._held[client] > self._share:
            message = "too many bytes of this client's requests are on their way; try again later"
            return RequestProblem(429, message, "too_many_at_once", later)
        return None
