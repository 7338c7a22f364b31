"""`GatewayState`: everything that a gateway's routes share."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from equipoise.errors import OutputError, PictureError
from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import BoundedExecutor
from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.concurrency_limit import address
from equipoise.guard.gateway.hot_reload import WatchedFiles, watch
from equipoise.guard.gateway.keys import Client, ClientKeys
from equipoise.guard.gateway.links import LinkFetcher, is_link
from equipoise.guard.gateway.metrics import GatewayMetrics
from equipoise.guard.gateway.picture_decoding import DecodedPicture, decode_picture_url, decoded
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.tracing import Tracing
from equipoise.guard.gateway.upstream import Upstream
from equipoise.guard.guard_input import GuardInput, PictureReader
from equipoise.guard.policy import PicturePolicy, Policy, Rail
from equipoise.guard.record.entry import RecordEntry, describe_decision
from equipoise.guard.record.store import AuditRecord

log = logging.getLogger("equipoise.gateway")
PROBE: Final = 5.0
"""Seconds for a look at the record."""
STUCK: Final = 90.0
"""Seconds without a sign of life after which a thread is given up."""
ENDING: Final = 15.0
"""Seconds that the gateway's end waits for what nobody waits for."""


@dataclass
class GatewayState:
    """What the routes share.

    Args:
        upstream: where replies come from.
        worker: the guard.
        keys: who may ask, and by which policy.
        record: where decisions are written; None writes none.
        reader: reads the text in pictures; None reads none.
        keep_text: whether the record keeps words.
    """

    upstream: Upstream
    worker: AsyncGuard
    keys: ClientKeys
    record: AuditRecord | None = None
    reader: PictureReader | None = None
    keep_text: bool = False
    files: WatchedFiles | None = None
    """Where keys and policies come from, where they may change; None keeps them."""
    links: LinkFetcher = field(default_factory=LinkFetcher)
    """Fetches linked pictures, where a policy lists their hosts."""
    looker: AsyncGuard | None = None
    """A guard of pictures; None leaves them to the text in them."""

    def __post_init__(self) -> None:
        """Metrics of its own."""
        self.metrics = GatewayMetrics()
        self.tracing = Tracing.from_environment()
        self._reading = BoundedExecutor("readings")
        self._probing = BoundedExecutor("looks at the record", seconds=PROBE, waiting=8)
        self._later: set[asyncio.Task[object]] = set()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the files."""
        if self.files is not None:
            self._watching = asyncio.create_task(
                watch(self.files, self._take, lambda result: self.metrics.reloads.labels(result).inc())
            )

    def _take(self, keys: ClientKeys) -> None:
        # What a client has asked for this minute stays counted.
        self.keys = replace(keys, _limiter=self.keys._limiter)

    async def review(self, evidence: GuardInput, policy: Policy, *, rewrite: bool = True) -> GuardDecision:
        """The decision about a reply, counted."""
        return await self._counted("output", self.worker.review(evidence, policy, rewrite=rewrite))

    async def screen(self, evidence: GuardInput, policy: Policy) -> GuardDecision:
        """The decision about a request, counted."""
        return await self._counted("input", self.worker.screen(evidence, policy))

    async def _counted(self, rail: str, check: Awaitable[GuardDecision]) -> GuardDecision:
        begin = time.perf_counter()
        with self.tracing.check(rail) as made:
            decision = await check
            made.append(decision)
        self.metrics.decisions.labels(rail, decision.observed or decision.action, decision.decided_by).inc()
        self.metrics.rail.labels(rail).observe(time.perf_counter() - begin)
        return decision

    async def look(self, evidence: GuardInput, policy: Policy) -> GuardDecision | None:
        """The picture guard's decision about the pictures of a request, counted; None where there is no such guard."""
        if self.looker is None:
            return None
        told = policy.pictures
        rail = Rail(threshold=told.threshold, action=told.action, fail=told.fail)
        asked = policy.model_copy(update={"output": rail})
        return await self._counted("pictures", self.looker.review(evidence, asked, rewrite=False))

    async def see(self, url: str, limits: PicturePolicy) -> tuple[DecodedPicture, str]:
        """A picture as it was looked at, and its text where that is read.

        Raises:
            PictureError: it cannot be fetched, decoded or read.
            Unanswered: there was no room or no time to read it.
        """
        if is_link(url):
            data = await self.links.fetch(url, limits)
            seen = await asyncio.to_thread(decoded, data, limits)
        else:
            seen = await asyncio.to_thread(decode_picture_url, url, limits)
        if not limits.read_text:
            return seen, ""
        reader = self.reader
        if reader is None:
            raise PictureError("nobody here reads pictures")
        return seen, await self._reading.run(lambda: reader(seen.image), limits.seconds)

    async def write(self, made: RequestLog, receipts: Receipts) -> None:
        """Record a request before it is answered.

        Raises:
            OutputError: it could not be written.
        """
        for receipt in receipts.all():
            self.metrics.receipts.labels(receipt.outcome).inc()
        if self.record is None:
            return
        policy = made.client.policy
        await self.record.aappend(
            RecordEntry(
                made.id,
                datetime.now(UTC).isoformat(timespec="milliseconds"),
                made.route,
                made.client.name,
                made.model,
                made.status,
                f"{policy.name}@{policy.revision}",
                self.worker.protector.detector.identity,
                [
                    describe_decision(decision, original, keep_text=self.keep_text)
                    for decision, original in made.decisions
                ],
                receipts.document(),
                round(time.perf_counter() - made.begin, 6),
            )
        )

    def later(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something that nobody waits for; `close` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._later.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, OutputError):
                self.metrics.unrecorded.inc()
            log.error("what was left of a request could not be ended", exc_info=error)

    async def problems(self) -> list[str]:
        """Why it is not ready; empty where it is."""
        found = []
        try:
            response = await self.upstream.client.get("models", timeout=5.0)
            if response.status_code >= 500:
                found.append(f"the upstream answers with status {response.status_code}")
        except httpx.HTTPError:
            found.append("the upstream cannot be reached")
        if self.worker.is_open or (self.looker is not None and self.looker.is_open):
            found.append("checks hang: the breaker is open")
        found += self.stuck()
        record = self.record
        if record is not None:
            if (trouble := record.trouble) is not None:
                found.append(trouble)
            try:
                await self._probing.run(record.head)
            except Exception:  # noqa: BLE001 - whatever a driver raises
                found.append("the record cannot be read")
        return list(dict.fromkeys(found))

    def stuck(self) -> list[str]:
        """What gives no sign of life and needs a new start; empty where all is well."""
        found = []
        for worker in (self.worker, self.looker):
            if worker is not None and worker.hangs > STUCK:
                found.append(f"a check has given no sign of life for {worker.hangs:.0f} seconds")
        if self.record is not None and self.record.hangs > STUCK:
            found.append(f"the record's writer has been at one batch for {self.record.hangs:.0f} seconds")
        return found

    def who(self, scope: Mapping[str, Any]) -> str:
        """Whose request it is, for fair shares: the name of its key, or the address that it comes from."""
        if self.keys.known:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            for given in (headers.get(b"authorization"), headers.get(b"x-api-key")):
                if given and (name := self.keys.name(given)) is not None:
                    return f"key {name}"
        return address(scope)

    async def close(self) -> None:
        """Let go of everything."""
        if self._watching is not None:
            self._watching.cancel()
        if self._later:
            _, late = await asyncio.wait(self._later, timeout=ENDING)
            for task in late:
                task.cancel()
        for worker in (self.worker, self.looker):
            if worker is not None:
                worker.close()
        self._reading.close()
        self._probing.close()
        await self.links.close()
        self.tracing.close()
        await self.upstream.client.aclose()
        if self.record is not None:
            await asyncio.to_thread(self.record.close)


@dataclass
class RequestLog:
    """One request on its way to the record."""

    client: Client
    """Who asked."""
    route: str
    """What was asked."""
    model: str | None = None
    """The upstream's."""
    status: int = 200
    """Of the response."""
    decisions: Sequence[tuple[GuardDecision, str]] = ()
    """With the text that each is about."""

    def __post_init__(self) -> None:
        """An id of its own."""
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.begin = time.perf_counter()
