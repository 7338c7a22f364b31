"""`Readiness`: whether the gateway can answer now: the upstream, the checks and the record's writer are asked."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import Final

import httpx

from equipoise.errors import OutputError
from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import CheckUnavailable
from equipoise.guard.gateway.gateway_state import GatewayState

SECONDS: Final = 5.0
"""Time limit for each of the three."""
FRESH: Final = 2.0
"""Seconds for which a result is given again: the route needs no key, and must cost next to nothing."""


class Readiness:
    """Asks all that a request needs; requests that come at the same time share one result.

    Args:
        service: the gateway.
    """

    def __init__(self, service: GatewayState) -> None:
        self._service = service
        self._lock = asyncio.Lock()
        self._numbers = count()
        self._problems: list[str] = []
        self._until = 0.0

    async def problems(self) -> list[str]:
        """The reasons why the gateway is not ready; empty if it is."""
        # A gateway that was not ready is asked anew each time, so that traffic comes back at once.
        async with self._lock:
            if self._problems or time.monotonic() >= self._until:
                parts = await asyncio.gather(self._of_upstream(), self._of_checks(), self._of_record())
                self._problems = list(dict.fromkeys([*(problem for part in parts for problem in part)]))
                self._until = time.monotonic() + FRESH
        stuck = [problem for problem in self._service.stuck() if problem not in self._problems]
        return [*self._problems, *stuck]

    async def _of_upstream(self) -> list[str]:
        try:
            headers = self._service.upstream.headers({}, pass_on=False)
            response = await self._service.upstream.client.get("models", headers=headers, timeout=SECONDS)
        except httpx.HTTPError:
            return ["the upstream cannot be reached"]
        # With a key of ours a 401 is for every client; without one it only says that we have none.
        refused = response.status_code in (401, 403) and self._service.upstream.key is not None
        if response.status_code >= 500 or refused:
            return [f"the upstream answers with status {response.status_code}"]
        return []

    async def _of_checks(self) -> list[str]:
        guards = [guard for guard in (self._service.guard, self._service.picture_guard) if guard is not None]
        if any(guard.executor.is_open for guard in guards):
            return ["checks hang: the breaker is open"]
        if self._service.readings.is_open:
            return ["readings of pictures hang: the breaker is open"]
        return await self._of_detector(self._service.guard)

    async def _of_detector(self, guard: AsyncGuard) -> list[str]:
        # A number makes each text a new one, so that no cache answers for the network.
        text = f"The kettle is on the stove, and tea number {next(self._numbers)} is ready."
        try:
            problem = await guard.probe(text, SECONDS)
        except CheckUnavailable as error:
            # A full queue is a busy gateway, not a broken one: its clients are told when to come back.
            return [f"checks give no answer within {SECONDS:g} seconds"] if error.kind in ("late", "hanging") else []
        return [] if problem is None else [f"checks fail: {problem}"]

    async def _of_record(self) -> list[str]:
        record = self._service.record
        if record is None:
            return []
        if (trouble := record.trouble) is not None:
            return [trouble]
        try:
            await record.probe(SECONDS)
        except OutputError as error:
            return [f"the record cannot be written: {error}"]
        return []
