"""`GatewayState`: everything that a gateway's routes share."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from equipoise.errors import OutputError, PictureError
from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import BoundedExecutor
from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.body_budget import BodyBudget
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
from equipoise.guard.policy import PicturePolicy, Policy, RailName
from equipoise.guard.record.entry import RecordEntry, describe_decision
from equipoise.guard.record.store import AuditRecord

log = logging.getLogger("equipoise.gateway")
STUCK: Final = 90.0
"""Seconds without progress after which a thread counts as stuck."""
AT_ONCE: Final = 200
"""Decisions and receipts of an entry that is described on the event loop."""
ENDING: Final = 15.0
"""Seconds that `close` waits for background work."""


@dataclass
class GatewayState:
    """What the routes share.

    Args:
        upstream: the model server.
        guard: checks requests and replies.
        keys: the clients and their policies.
        record: where decisions are written; None writes none.
        reader: reads the text in pictures; None reads none.
        keep_text: whether the record stores text.
    """

    upstream: Upstream
    guard: AsyncGuard
    keys: ClientKeys
    record: AuditRecord | None = None
    reader: PictureReader | None = None
    keep_text: bool = False
    origins: tuple[str, ...] = ()
    """Origins of web pages that may call the gateway, such as `https://chat.example.com`; `*` is every page."""
    files: WatchedFiles | None = None
    """Files of keys and policies that are watched for changes; None watches none."""
    links: LinkFetcher = field(default_factory=LinkFetcher)
    """Fetches linked pictures from hosts that a policy lists."""
    picture_guard: AsyncGuard | None = None
    """Checks the pictures themselves; None checks only the text in them."""

    load_reader: Callable[[], PictureReader] | None = None
    """Loads a reader once a changed policy needs one; None loads none."""

    def __post_init__(self) -> None:
        """Create metrics, tracing and executors."""
        self.metrics = GatewayMetrics()
        if self.guard.pool is not None:
            self.metrics.watch_workers(self.guard.pool)
        self.tracing = Tracing.from_environment()
        self.readings = BoundedExecutor("readings")
        """Where the text in pictures is read."""
        self.bodies = BodyBudget()
        """The bytes of requests that are on their way."""
        self._background: set[asyncio.Task[object]] = set()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the files."""
        if self.files is not None:
            self._watching = asyncio.create_task(
                watch(
                    self.files,
                    self._take,
                    lambda result: self.metrics.reloads.labels(result).inc(),
                    prepare=self._prepare,
                )
            )

    def _prepare(self, keys: ClientKeys) -> None:
        """Load the reader of pictures where new policies need the first one.

        Raises:
            EquipoiseError: there is none.
        """
        if self.reader is None and self.load_reader is not None and keys.read_pictures:
            self.reader = self.load_reader()

    def _take(self, keys: ClientKeys) -> None:
        self.keys = keys.with_counts_of(self.keys)

    async def check(
        self, name: RailName, item: GuardInput, policy: Policy, *, always: bool = False, rewrite: bool = True
    ) -> GuardDecision:
        """The decision of one rail, counted and traced.

        Args:
            name: `input` judges the request in `item`, `output` the reply, `pictures` the images.
            item: reply, request and images.
            policy: of the client.
            always: whether the check also runs if the policy turns the rail off.
            rewrite: whether a harmful reply may be rewritten.
        """
        # One place for all rails, so that no check can be left out of metrics, traces and receipts.
        begin = time.perf_counter()
        rail = policy.rail(name)
        if always:
            rail = rail.model_copy(update={"enabled": True})
        guard = self.guard
        if name == "input":
            item, rewrite = item.request_only(), False
        elif name == "pictures":
            assert self.picture_guard is not None
            guard, rewrite = self.picture_guard, False
        with self.tracing.check(name) as decisions:
            decision = await guard.check(item, policy, rail, rewrite=rewrite)
            decisions.append(decision)
        self.metrics.decisions.labels(name, decision.observed or decision.action, decision.decided_by).inc()
        self.metrics.rail.labels(name).observe(time.perf_counter() - begin)
        return decision

    async def read_picture(self, url: str, limits: PicturePolicy, *, read_text: bool) -> tuple[DecodedPicture, str]:
        """A picture after decoding, and the text in it.

        Args:
            url: a data URL, or a link to a host that the policy lists.
            limits: on bytes, pixels and seconds.
            read_text: whether the text is read; otherwise it is empty.

        Raises:
            PictureError: it cannot be fetched, decoded or read.
            CheckUnavailable: there was no room or no time to read it.
        """
        if is_link(url):
            # Decoding takes long for large pictures and holds the GIL only in part: it runs in a thread of its own, so
            # that streams of other clients go on meanwhile.
            data = await self.links.fetch(url, limits)
            picture = await asyncio.to_thread(decoded, data, limits)
        else:
            picture = await asyncio.to_thread(decode_picture_url, url, limits)
        if not read_text:
            return picture, ""
        reader = self.reader
        if reader is None:
            raise PictureError("nobody here reads pictures")
        return picture, await self.readings.run(lambda: reader(picture.image), limits.seconds)

    async def write(self, entry: RequestLog, receipts: Receipts) -> None:
        """Record a request before it is answered; closes all its receipts.

        Raises:
            OutputError: it could not be written.
        """
        # Before anything else: what no check has closed becomes "unsupported", so that an early error cannot leave a
        # part that looks checked.
        receipts.finish()
        for outcome, number in receipts.counts().items():
            self.metrics.receipts.labels(outcome).inc(number)
        if self.record is None:
            return
        now, seconds = datetime.now(UTC), round(time.perf_counter() - entry.begin, 6)
        describing = partial(self._entry, entry, receipts, now, seconds)
        if len(entry.decisions) + sum(receipts.counts().values()) <= AT_ONCE:
            await self.record.aappend(describing())
            return
        # A task of its own, so that the entry of a client that leaves meanwhile is written all the same.
        writing = asyncio.create_task(self._append_long(self.record, describing))
        self._background.add(writing)
        writing.add_done_callback(self._background.discard)
        # As with `aappend`, nobody may be there to hear of its failure.
        writing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.shield(writing)

    def _entry(self, entry: RequestLog, receipts: Receipts, now: datetime, seconds: float) -> RecordEntry:
        policy = entry.client.policy
        return RecordEntry(
            entry.id,
            now.isoformat(timespec="milliseconds"),
            entry.route,
            entry.client.name,
            entry.model,
            entry.status,
            f"{policy.name}@{policy.revision}",
            self.guard.pipeline.detector.identity,
            [describe_decision(decision, original, keep_text=self.keep_text) for decision, original in entry.decisions],
            receipts.to_json(),
            seconds,
        )

    @staticmethod
    async def _append_long(record: AuditRecord, describing: Callable[[], RecordEntry]) -> None:
        """Append an entry that takes long to describe: off the event loop."""
        await record.aappend_text(await asyncio.to_thread(lambda: describing().canonical()))

    def run_later(self, work: Coroutine[Any, Any, object]) -> None:
        """Run work in the background; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, OutputError):
                self.metrics.unrecorded.inc()
            log.error("a request's background work failed", exc_info=error)

    def stuck(self) -> list[str]:
        """Threads without progress, which need a restart; empty if there are none."""
        problems = []
        for guard in (self.guard, self.picture_guard):
            if guard is not None and guard.executor.hangs > STUCK:
                problems.append(f"a check has given no sign of life for {guard.executor.hangs:.0f} seconds")
        if self.readings.hangs > STUCK:
            problems.append(f"a picture has been read for {self.readings.hangs:.0f} seconds")
        if self.record is not None and self.record.hangs > STUCK:
            problems.append(f"the record's writer has been at one batch for {self.record.hangs:.0f} seconds")
        return problems

    def client_of(self, scope: Mapping[str, Any]) -> str:
        """The client of a request, for fair shares: the name of its key, or its address."""
        if self.keys.are_needed:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            for value in (headers.get(name) for name in (b"authorization", b"api-key", b"x-api-key")):
                if value and (name := self.keys.name(value)) is not None:
                    return f"key {name}"
        return address(scope)

    async def close(self) -> None:
        """Wait for background work, then close guards, connections and the record."""
        if self._watching is not None:
            self._watching.cancel()
        # Order: first the work that still writes entries, then what it needs (guards, reader, links, upstream), the
        # record last.
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=ENDING)
            for task in late:
                task.cancel()
        for guard in (self.guard, self.picture_guard):
            if guard is not None:
                guard.close()
        self.readings.close()
        await self.links.close()
        self.tracing.close()
        await self.upstream.client.aclose()
        if self.record is not None:
            await asyncio.to_thread(self.record.close)


@dataclass
class RequestLog:
    """What the record keeps of one request."""

    client: Client
    """Name and policy of the client."""
    route: str
    """Path of the endpoint."""
    model: str | None = None
    """The model that the client asked for."""
    status: int = 200
    """HTTP status of the response."""
    decisions: Sequence[tuple[GuardDecision, str]] = ()
    """Decisions and the texts that they are about."""

    def __post_init__(self) -> None:
        """Make an id and start the clock."""
        self.id = f"chatcmpl-{uuid.uuid4().hex}"
        self.begin = time.perf_counter()
