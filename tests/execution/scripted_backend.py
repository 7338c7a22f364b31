"""A backend whose workers live in memory and whose clock stands still unless a test moves it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from equipoise.execution import Parcel
from equipoise.execution.backend import WorkerBackend, WorkerDeath, WorkerEvent
from equipoise.execution.worker import WorkerReply

HANG = None
"""In place of an event: the worker says nothing."""
Script = Callable[[str, str, Parcel], WorkerReply | WorkerDeath | None]


def echo(worker: str, key: str, parcel: Parcel) -> WorkerReply:
    return WorkerReply(Parcel.of(parcel.parts[0][::-1]))


class ScriptedBackend(WorkerBackend):
    """Asks `script` what a worker says to an item, and `on_start` what it says to being started."""

    def __init__(
        self,
        workers: int,
        script: Script = echo,
        on_start: Callable[[str], WorkerReply | WorkerDeath] = lambda worker: WorkerReply(),
    ) -> None:
        self._names = tuple(f"worker-{number}" for number in range(workers))
        self._script, self._on_start = script, on_start
        self._events: deque[WorkerEvent] = deque()
        self.busy: set[str] = set()
        self.most_busy = 0
        self.started: list[str] = []
        self.submitted: list[str] = []
        self.clock = 0.0
        self.is_closed = False

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def start(self, worker: str) -> None:
        self.started.append(worker)
        self._events.append((worker, self._on_start(worker)))

    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        assert worker not in self.busy, "one item at a time"
        self.busy.add(worker)
        self.most_busy = max(self.most_busy, len(self.busy))
        self.submitted.append(parcel.parts[0].decode())
        event = self._script(worker, key, parcel)
        if event is not None:
            self._events.append((worker, event))

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        if not self._events:
            assert seconds is not None, "waits for ever"
            self.clock += seconds
            return []
        event = self._events.popleft()
        self.busy.discard(event[0])
        return [event]

    def stop(self, worker: str) -> None:
        self.busy.discard(worker)
        self._events = deque(event for event in self._events if event[0] != worker)

    def kill_idle(self, worker: str) -> None:
        """A worker that has nothing to do ends."""
        self._events.append((worker, WorkerDeath("killed by signal 9")))

    def close(self) -> None:
        self.is_closed = True

    def now(self) -> float:
        return self.clock
