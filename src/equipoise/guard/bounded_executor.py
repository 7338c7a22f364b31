"""`BoundedExecutor` runs slow work off the event loop: one thread, a bounded queue, a time limit, a breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
FAILURES: Final = 5
"""Timeouts in a row that open the breaker."""
REST: Final = 10.0
"""Seconds after which an open breaker lets work try again; the next timeout opens it for as long again."""


class CheckUnavailable(Exception):
    """Work that was not done, and why: no room, no time, or an open breaker."""


class BoundedExecutor:
    """Runs one piece of work after the other.

    Args:
        name: of the thread, and what people call the work.
        seconds: for one piece, waiting included.
        waiting: pieces that may wait; more are not taken.
    """

    def __init__(self, name: str, *, seconds: float = 30.0, waiting: int = 128) -> None:
        self.name = name
        self.seconds = seconds
        self.waiting = waiting
        self._busy = 0
        self._failures = 0
        self._opened = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: work is refused at once."""
        return self._failures >= FAILURES and time.monotonic() - self._opened < REST

    async def run(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """What the work returns or raises.

        Args:
            work: called on the thread.
            seconds: instead of the lane's own.

        Raises:
            Unanswered: it was not taken, or took too long; the thread then still ends it.
        """
        if self.is_open:
            raise CheckUnavailable(f"the breaker is open: {self.name} hang")
        if self._busy >= self.waiting:
            raise CheckUnavailable(f"{self.waiting} {self.name} wait already")
        seconds = self.seconds if seconds is None else seconds
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._finished)
        try:
            found = await asyncio.wait_for(asyncio.shield(future), seconds)
        except TimeoutError:
            if future.done() and not future.cancelled() and isinstance(future.exception(), TimeoutError):
                raise
            self._failures += 1
            self._opened = time.monotonic()
            raise CheckUnavailable(f"no answer within {seconds:g} seconds") from None
        self._failures = 0
        return found

    def _finished(self, future: asyncio.Future[Any]) -> None:
        # One whose caller gave up still holds the thread, so it counts until it ends.
        self._busy -= 1
        if not future.cancelled():
            future.exception()

    def close(self) -> None:
        """Let nothing more start; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
