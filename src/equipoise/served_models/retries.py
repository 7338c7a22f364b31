"""Asks a server again where that may help, for what runs outside the audit's engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from equipoise.served_models.backoff import FIRST_PAUSE, Backoff
from equipoise.served_models.failures import Failure

Reply = TypeVar("Reply")

MAX_ATTEMPTS: Final = 3
"""The first and at most two more."""


@dataclass(frozen=True)
class Unanswered:
    """A request without a reply."""

    failure: Failure | None
    """The last one; None where the time ended before any."""
    is_late: bool = False
    """Whether the time ended."""

    @property
    def is_broken(self) -> bool:
        """Whether the server is at fault. One that says no to a single request, as to a text too long, is not."""
        return self.is_late or self.failure is None or self.failure.again


async def ask_again(
    ask: Callable[[], Awaitable[Reply | Failure]], *, seconds: float | None, pause: float = FIRST_PAUSE
) -> Reply | Unanswered:
    """Ask until there is a reply, at most three times.

    Args:
        ask: sends the request once; a failure is a value.
        seconds: for all tries and pauses together; None is no limit.
        pause: seconds before the second try; twice as many before the third. A server's `Retry-After` goes first.
    """
    failure: Failure | None = None
    backoff = Backoff(pause)
    try:
        async with asyncio.timeout(seconds):
            for tries in range(1, MAX_ATTEMPTS + 1):
                reply = await ask()
                if not isinstance(reply, Failure):
                    return reply
                failure = reply
                if not failure.again:
                    break
                if tries < MAX_ATTEMPTS:
                    await asyncio.sleep(backoff.seconds(failure.retry_after))
    except TimeoutError:
        return Unanswered(failure, is_late=True)
    return Unanswered(failure)


def run_in_own_loop(work: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
    """Run a coroutine to its end in a loop and a thread of its own: the caller may be inside a running loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="served") as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
