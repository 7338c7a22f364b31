"""`WorkerBackend`: how workers are started, given an item, waited for and ended; and the backend in this process."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from equipoise.execution.items import Parcel, WorkerTask
from equipoise.execution.shards import ShardStore
from equipoise.execution.worker import ItemWorker, WorkerReply


@dataclass(frozen=True)
class WorkerDeath:
    """A worker that ended without a reply."""

    reason: str
    """Such as `killed by signal 9`."""


WorkerEvent = tuple[str, WorkerReply | WorkerDeath]
"""Name of a worker, and what it said or how it ended."""


class WorkerBackend(ABC):
    """Workers by name, each of which loads or does one item at a time; which item is `WorkerGroup`'s decision."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """Names of the workers; a worker that is started again keeps its name, and its shard."""

    @abstractmethod
    def start(self, worker: str) -> None:
        """Start a worker, which loads the task's state; `wait` returns its reply to that."""

    @abstractmethod
    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        """Give a worker that has nothing to do an item; `wait` returns its reply."""

    @abstractmethod
    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """What workers said since the last call; waits for at least one, or so many seconds.

        Raises:
            Exception: one that a worker raised and that is no `EquipoiseError`: a mistake in the program.
        """

    @abstractmethod
    def stop(self, worker: str) -> None:
        """End a worker at once, whatever it does; what it was doing gets no reply."""

    @abstractmethod
    def close(self) -> None:
        """End all workers at once."""

    def now(self) -> float:
        """Seconds on the clock that time limits are measured on."""
        return time.monotonic()


class InProcessBackend(WorkerBackend):
    """One worker, which is this process. Nothing ends an item that hangs, and a crash is this process's own.

    Args:
        task: what is done.
        store: where results go.
    """

    def __init__(self, task: WorkerTask, store: ShardStore | None = None) -> None:
        self._worker = ItemWorker("worker-0", task, store)
        self._pending: list[Callable[[], WorkerReply]] = []

    @property
    def names(self) -> Sequence[str]:
        """The one worker."""
        return (self._worker.name,)

    def start(self, worker: str) -> None:
        """Load, when the reply is waited for."""
        self._pending.append(self._worker.load)

    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        """Do the item, when its reply is waited for: by then the caller has kept the result before it."""
        self._pending.append(partial(self._worker.do, key, parcel))

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Do what is pending."""
        pending, self._pending = self._pending, []
        return [(self._worker.name, work()) for work in pending]

    def stop(self, worker: str) -> None:
        """Forget what has not begun; nothing else can be ended here."""
        self._pending = []

    def close(self) -> None:
        """Forget what has not begun."""
        self._pending = []
