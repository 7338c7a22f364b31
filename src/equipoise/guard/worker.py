"""`Worker`: the guard off the event loop: one thread, a bounded queue, a time limit, and a breaker when it hangs.

Whatever goes wrong here is a failed check, and the rail's fail mode decides; nothing raises.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from equipoise.guard.decision import Decision
from equipoise.guard.evidence import Evidence
from equipoise.guard.policy import Policy, Rail
from equipoise.guard.protector import Protector, observed, unchecked

FAILURES: Final = 5
"""Timeouts in a row that open the breaker."""
REST: Final = 10.0
"""Seconds after which an open breaker lets checks try again; the next timeout opens it for as long again."""


class Worker:
    """Asks a protector from an event loop.

    Args:
        protector: who decides.
        seconds: for one check, waiting included.
        waiting: checks that may wait; more are failures at once.
    """

    def __init__(self, protector: Protector, *, seconds: float = 30.0, waiting: int = 128) -> None:
        self.protector = protector
        self.seconds = seconds
        self.waiting = waiting
        self._busy = 0
        self._failures = 0
        self._opened = 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="guard")

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: checks fail at once."""
        return self._failures >= FAILURES and time.monotonic() - self._opened < REST

    async def review(self, evidence: Evidence, policy: Policy, *, rewrite: bool = True) -> Decision:
        """The decision about a reply."""
        return await self._ask(
            lambda: self.protector([evidence], policy, rewrite=rewrite)[0], policy, policy.output, evidence.response
        )

    async def screen(self, evidence: Evidence, policy: Policy) -> Decision:
        """The decision about a request."""
        return await self._ask(
            lambda: self.protector.screen([evidence], policy)[0], policy, policy.input, evidence.asked
        )

    async def _ask(self, ask: Callable[[], Decision], policy: Policy, rail: Rail, response: str) -> Decision:
        if not rail.enabled:
            return ask()
        if self.is_open:
            return self._failed("the breaker is open: checks hang", policy, rail, response)
        if self._busy >= self.waiting:
            return self._failed(f"{self.waiting} checks wait already", policy, rail, response)
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, ask)
        future.add_done_callback(self._finished)
        try:
            decision = await asyncio.wait_for(asyncio.shield(future), self.seconds)
        except TimeoutError:
            self._failures += 1
            self._opened = time.monotonic()
            return self._failed(f"no answer within {self.seconds:g} seconds", policy, rail, response)
        self._failures = 0
        return decision

    @staticmethod
    def _failed(why: str, policy: Policy, rail: Rail, response: str) -> Decision:
        return observed(unchecked(f"the check failed: {why}", rail, policy, response), response, policy)

    def _finished(self, future: asyncio.Future[Decision]) -> None:
        # One whose caller gave up still holds the thread, so it counts until it ends.
        self._busy -= 1
        if not future.cancelled():
            future.exception()

    def close(self) -> None:
        """Let nothing more start; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
