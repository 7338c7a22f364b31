"""`WorkerGroup`: hands items to workers, one at a time to each, and gives up no item because a worker died.

It is a loop over one item per worker and no scheduler: where workers run is the backend's matter (this process,
processes of this machine, Ray). That a worker holds one item at a time says exactly which item was under way when it
died, and bounds what is in memory. A model's step takes seconds, the way to the next item about a millisecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from equipoise.errors import EquipoiseError, ModelError
from equipoise.execution.backend import WorkerBackend, WorkerDeath
from equipoise.execution.items import Parcel, WorkItem
from equipoise.execution.shards import ShardStore
from equipoise.execution.worker import WorkerReply

FAILED_STARTS: Final = 3
"""Workers that die one after the other while they load, at least, before the run ends."""
SHORTEST_WAIT: Final = 0.001
"""Seconds to wait, at least, for an item that is about to be overdue."""


class SetAsideError(EquipoiseError):
    """An item that ended every worker it was given to; the others are done without it."""


@dataclass(frozen=True)
class DispatchLimits:
    """When an item is given up."""

    item_seconds: float | None = None
    """Seconds after which a worker's item counts as hung and its worker is ended; None is as long as it takes."""
    deaths: int = 2
    """Workers that an item may cost; then it is set aside."""


@dataclass(frozen=True)
class ItemOutcome:
    """The end of one item."""

    item: WorkItem
    """The item."""
    result: Parcel | None
    """Its result; None where it failed."""
    error: EquipoiseError | None = None
    """Why it failed."""


@dataclass(frozen=True)
class ItemUnderway:
    """An item at a worker."""

    item: WorkItem
    """The item."""
    since: float
    """When the worker got it, on the backend's clock."""


def _ignore(_: str) -> None:
    """Where the caller reads no notes."""


class WorkerGroup:
    """Workers that keep their loaded state over several calls of `map`; a context manager that ends them.

    >>> with executor.open(task, store) as group:                  # doctest: +SKIP
    ...     for outcome in group.map(items):
    ...         keep(outcome.item, outcome.result)

    Args:
        backend: how workers run.
        store: where workers keep results; None hands them out only.
        limits: when an item is given up.
        note: called with a line about each worker that died.
    """

    def __init__(
        self,
        backend: WorkerBackend,
        store: ShardStore | None = None,
        limits: DispatchLimits | None = None,
        note: Callable[[str], None] = _ignore,
    ) -> None:
        self.underway: dict[str, ItemUnderway] = {}
        """The item of each worker that has one."""
        self.deaths: dict[str, list[str]] = {}
        """How workers ended over an item, by its key."""
        self._backend = backend
        self._store = store
        self._limits = limits or DispatchLimits()
        self._note = note
        # A worker is in one of four states: stopped, loading, idle or under way with an item.
        self._stopped = deque(backend.names)
        self._loading: set[str] = set()
        self._idle: deque[str] = deque()
        self._failed_starts = 0

    def __enter__(self) -> Self:
        """Workers start with the first items, and no more of them than there are items."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers at once, also after Ctrl-C."""
        self._backend.close()

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._backend.names)

    @property
    def loaded(self) -> int:
        """Workers that have loaded and are alive, as far as is known."""
        return len(self._idle) + len(self.underway)

    def map(self, items: Iterable[WorkItem]) -> Iterator[ItemOutcome]:
        """Do items; yields the outcome of each as it comes, in any order, and of each key once.

        An item whose result is in the store is not done again. An item whose worker died, hung or got damaged bytes
        goes to another worker, until it has cost `DispatchLimits.deaths` of them.

        Args:
            items: what to do; read as workers become free.

        Raises:
            OutputError: a worker can write nothing any more; what was written before is whole.
            ModelError: no worker can load.
        """
        # Of an earlier call that its caller left: the replies of those items would be taken for ours.
        for worker in list(self.underway):
            self._stop(worker)
        source, queue = _without_repeats(items), deque[WorkItem]()
        settled: list[ItemOutcome] = []
        while True:
            yield from self._fill(source, queue)
            # Free workers get their next item before the caller, who may write to a disk, sees the results.
            failed = self._hand_out(queue)
            yield from (*settled, *failed)
            settled = []
            if queue or self.underway:
                for worker, event in self._backend.wait(self._patience()):
                    settled += self._settle(worker, event, queue)
                settled += self._end_overdue(queue)
            elif not failed:
                return

    def _fill(self, source: Iterator[WorkItem], queue: deque[WorkItem]) -> Iterator[ItemOutcome]:
        """Read items until there is one for every worker; yields those whose result is in the store."""
        while len(queue) < self.workers:
            item = next(source, None)
            if item is None:
                return
            kept = self._store.read(item.key) if self._store is not None else None
            if kept is None:
                queue.append(item)
            else:
                yield ItemOutcome(item, kept)

    def _hand_out(self, queue: deque[WorkItem]) -> list[ItemOutcome]:
        """Give idle workers items, and start workers for those that are left; returns items that cannot be sent."""
        failed = []
        while queue and self._idle:
            item = queue.popleft()
            try:
                parcel = item.pack()
            except EquipoiseError as error:
                failed.append(ItemOutcome(item, None, error))
                continue
            worker = self._idle.popleft()
            self.underway[worker] = ItemUnderway(item, self._backend.now())
            self._backend.submit(worker, item.key, parcel)
        while self._stopped and len(self._loading) < len(queue):
            worker = self._stopped.popleft()
            self._loading.add(worker)
            # No more workers than items that wait: loading a model takes minutes and memory, and a run of three
            # pictures on a machine with eight GPUs would otherwise load eight models.
            self._backend.start(worker)
        return failed

    def _patience(self) -> float | None:
        """Seconds until the first item under way is overdue."""
        if self._limits.item_seconds is None or not self.underway:
            return None
        # A dict keeps the order of insertion, so the first item is the oldest: no search among a thousand of them.
        first = next(iter(self.underway.values())).since
        # Never less than a moment: a rest too small to move the clock would be waited for again and again.
        return max(SHORTEST_WAIT, first + self._limits.item_seconds - self._backend.now())

    def _settle(self, worker: str, event: WorkerReply | WorkerDeath, queue: deque[WorkItem]) -> list[ItemOutcome]:
        """Take what a worker said; returns the outcome of its item, where it has ended."""
        if isinstance(event, WorkerReply) and event.error is not None and event.is_final:
            raise event.error
        # The first event of a worker answers its start, every later one an item. Both arrive over the same pipe.
        if worker in self._loading:
            self._settle_start(worker, event)
            return []
        underway = self.underway.pop(worker, None)
        if isinstance(event, WorkerDeath):
            self._stopped.append(worker)
            if underway is None:
                # Killed while it waited: no item is to blame.
                self._idle.remove(worker)
                self._note(f"{worker} was lost ({event.reason}) while it had nothing to do")
                return []
            return self._count_death(worker, underway.item, event.reason, queue)
        if underway is None:
            return []
        self._idle.append(worker)
        item = underway.item
        if event.error is not None:
            return [ItemOutcome(item, None, event.error)]
        if event.damage is not None:
            return self._count_death(worker, item, event.damage, queue)
        result = event.result
        # The result is read back from the disk even if it came over the wire: what counts as done is what the next run
        # will find.
        if self._store is not None:
            if result is not None:
                self._store.write(worker, item.key, result)
            result = self._store.read(item.key)
        if result is None or result.damage:
            return self._count_death(worker, item, "its result did not arrive whole", queue)
        return [ItemOutcome(item, result)]

    def _settle_start(self, worker: str, event: WorkerReply | WorkerDeath) -> None:
        self._loading.discard(worker)
        if isinstance(event, WorkerReply):
            self._failed_starts = 0
            self._idle.append(worker)
            return
        self._failed_starts += 1
        # Of a thousand workers a few die while they load, long before the first one has loaded: that all of them fail
        # is known only when as many have died as there are workers.
        if self._failed_starts >= max(FAILED_STARTS, self.workers):
            raise ModelError(
                f"expected workers that load, got {self._failed_starts} that died before they had ({event.reason}); "
                "try fewer --workers, or a smaller model"
            )
        self._note(f"{worker} was lost ({event.reason}) while it loaded; it is started again")
        self._stopped.append(worker)

    def _end_overdue(self, queue: deque[WorkItem]) -> list[ItemOutcome]:
        """End workers whose item takes longer than allowed."""
        limit, now = self._limits.item_seconds, self._backend.now()
        if limit is None:
            return []
        outcomes = []
        while self.underway:
            worker, underway = next(iter(self.underway.items()))
            if now - underway.since < limit:
                break
            self._stop(worker)
            outcomes += self._count_death(worker, underway.item, f"ran longer than {limit:g} s", queue)
        return outcomes

    def _stop(self, worker: str) -> None:
        self._backend.stop(worker)
        del self.underway[worker]
        self._stopped.append(worker)

    def _count_death(self, worker: str, item: WorkItem, reason: str, queue: deque[WorkItem]) -> list[ItemOutcome]:
        """Put an item that cost a worker first in the queue, or set it aside."""
        reasons = self.deaths.setdefault(item.key, [])
        reasons.append(reason)
        if len(reasons) < self._limits.deaths:
            self._note(f"{worker} was lost ({reason}) over {item.name}, which is done again")
            # First, not last: an item that ends its workers is known early, and the run does not wait for it.
            queue.appendleft(item)
            return []
        error = SetAsideError(
            f"expected a result of {item.name}, got {len(reasons)} lost workers ({'; '.join(reasons)}); "
            "try it alone, without workers"
        )
        return [ItemOutcome(item, None, error)]


def _without_repeats(items: Iterable[WorkItem]) -> Iterator[WorkItem]:
    """The items, each key once."""
    known: set[str] = set()
    for item in items:
        if item.key not in known:
            known.add(item.key)
            yield item
