"""`CheckPool`: processes that compute checks, each a lane of the executor that decides whose turn it is.

A thread of this process accompanies each piece: it holds the piece's turn, sends the order and waits for the answer. At
a worker's checkpoint it passes the executor's own, so turns, fair shares, time limits and the breaker are those of
checks that compute here. A worker that dies loses what it computes and what has paused in it (`LaneLost`, which may be
tried once more); one that computes longer than a check may take, for a caller who has gone, is killed. Either is
started again, after a pause that doubles as long as starting fails.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from contextlib import suppress
from itertools import count
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Final, Protocol, TypeVar, cast

from equipoise.errors import EquipoiseError, ModelError
from equipoise.execution.spawn import SpawnedProcess
from equipoise.guard.check_orders import CheckOrder
from equipoise.guard.check_worker import DONE, PAUSED, GuardLoader, LoadedGuard, serve_checks
from equipoise.guard.checkpoints import LaneLost, checkpoint, current_piece

Answer = TypeVar("Answer")
log = logging.getLogger("equipoise.gateway")
RESTS: Final = (0.2, 30.0)
"""Seconds before a worker is started again, after the first failure and at most."""


class CheckLanes(Protocol):
    """What the pool tells the executor."""

    def open_lane(self, number: int) -> None:
        """A worker can compute."""
        ...

    def close_lane(self, number: int) -> None:
        """It cannot any more."""
        ...


class WorkerFailure(Exception):
    """What a check raised in its worker, in words."""


class _CheckProcess:
    """One worker, which a thread starts and starts again.

    Args:
        number: of its lane.
        load: loads the guard there.
        seconds: after which a piece that nobody waits for counts as one that hangs.
    """

    def __init__(self, number: int, load: GuardLoader, seconds: float) -> None:
        self.number = number
        self._load = load
        self._seconds = seconds
        self._numbers = count()
        self._lock = threading.Lock()
        self._running: SpawnedProcess | None = None
        self._ready: Connection | None = None
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None
        self._lanes: CheckLanes | None = None
        self.loaded: LoadedGuard | EquipoiseError | None = None
        """What it said first; None before that, and where it died first."""
        self.first = threading.Event()
        """Set once it is known whether it could be started."""
        self.deaths = 0

    @property
    def is_ready(self) -> bool:
        return self._ready is not None

    @property
    def process_id(self) -> int | None:
        with self._lock:
            return self._running.process.pid if self._running is not None else None

    def start(self) -> None:
        self._keeper = threading.Thread(target=self._keep, name=f"check-worker-{self.number}", daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        """Start the process again and again, until `close`."""
        rest = RESTS[0]
        while (running := self._begin()) is not None:
            try:
                self.loaded = running.pipe.recv()
            except (EOFError, OSError):
                self.loaded = None
            if isinstance(self.loaded, LoadedGuard):
                rest = RESTS[0]
                with self._lock:
                    self._ready = running.pipe
                    self._open()
                self.first.set()
                connection.wait([running.process.sentinel])
            self._lost(running.pipe)
            how = self._end(running)
            if not self.first.is_set():
                if self.loaded is None:
                    self.loaded = ModelError(
                        f"expected a worker of checks to load the guard, got: it {how}; try fewer --check-workers"
                    )
                self.first.set()
                return
            if not self._closed.is_set():
                self.deaths += 1
                log.warning("worker %d of the checks %s; it is started again", self.number, how)
                self._closed.wait(rest)
                rest = min(2 * rest, RESTS[1])

    def _begin(self) -> SpawnedProcess | None:
        """A new process; None where there shall be none any more."""
        # Under the lock, so that `close` ends every process that was ever started.
        with self._lock:
            if self._closed.is_set():
                return None
            self._running = SpawnedProcess.start(f"check-worker-{self.number}", serve_checks, self._load)
            return self._running

    def _end(self, running: SpawnedProcess) -> str:
        # Our end of the pipe is not closed but forgotten: a thread may still read it, and would read the next file that
        # gets its number.
        with self._lock:
            self._running = None
            running.process.kill()
            return running.bury()

    def _lost(self, pipe: Connection) -> None:
        """Take no more pieces, if this pipe is still the one in use."""
        with self._lock:
            if self._ready is not pipe:
                return
            self._ready = None
            if self._lanes is not None:
                self._lanes.close_lane(self.number)

    def connect(self, lanes: CheckLanes) -> None:
        with self._lock:
            self._lanes = lanes
            self._open()

    def _open(self) -> None:
        """Let the executor use the lane if there is a worker; the lock is held."""
        if self._lanes is not None and self._ready is not None:
            self._lanes.open_lane(self.number)

    def run(self, order: CheckOrder[Answer]) -> Answer:
        """What the worker answers, in the turn of the piece that calls this.

        Raises:
            LaneLost: it died first.
            WorkerFailure: the order raised something there.
            Abandoned: nobody waits for it any more.
        """
        pipe, number = self._ready, next(self._numbers)
        if pipe is None:
            raise LaneLost("the worker of this check has died")
        try:
            pipe.send((number, order))
            while True:
                speaker, kind, value = self._answer(pipe)
                if speaker != number:
                    # A piece that was given up has said something after all.
                    continue
                if kind == PAUSED:
                    self._pass_checkpoint(pipe, number)
                elif kind == DONE:
                    return cast("Answer", value)
                else:
                    raise WorkerFailure(value)
        except (EOFError, OSError) as error:
            self._lost(pipe)
            raise LaneLost("the worker of this check has died") from error

    def _pass_checkpoint(self, pipe: Connection, number: int) -> None:
        try:
            # Here others may get the turn, and the pipe with it.
            checkpoint()
        except BaseException:
            with suppress(OSError):
                pipe.send((number, False))
            raise
        pipe.send((number, True))

    def _answer(self, pipe: Connection) -> tuple[int, str, object]:
        piece = current_piece()
        while not pipe.poll(min(1.0, self._seconds / 4)):
            if piece is not None and piece.gone and time.monotonic() - piece.began > self._seconds:
                self.kill()
        return cast("tuple[int, str, object]", pipe.recv())

    def kill(self) -> None:
        """End the process at once."""
        with self._lock:
            if self._running is not None:
                self._running.process.kill()

    def close(self) -> None:
        """End the process, and start none again."""
        self._closed.set()
        self.kill()

    def join(self) -> None:
        """Wait until it is gone."""
        if self._keeper is not None:
            self._keeper.join(30)


class CheckPool:
    """Worker processes for the checks of one guard.

    Args:
        load: loads the guard in each worker.
        workers: how many.
        seconds: after which a check that nobody waits for any more counts as one that hangs.
    """

    def __init__(self, load: GuardLoader, workers: int, *, seconds: float = 30.0) -> None:
        self._workers = [_CheckProcess(number, load, seconds) for number in range(workers)]

    def start(self) -> LoadedGuard:
        """Start all workers, and wait until they have loaded; returns what they have loaded.

        Raises:
            EquipoiseError: it could not be loaded; no worker is left.
        """
        # However this process ends, its workers end first: multiprocessing would wait for them.
        atexit.register(self.close)
        for worker in self._workers:
            worker.start()
        for worker in self._workers:
            worker.first.wait()
        failures = [worker.loaded for worker in self._workers if isinstance(worker.loaded, EquipoiseError)]
        if failures:
            self.close()
            raise failures[0]
        return next(worker.loaded for worker in self._workers if isinstance(worker.loaded, LoadedGuard))

    def connect(self, lanes: CheckLanes) -> None:
        """Open the lanes of all workers that are there, now and later."""
        for worker in self._workers:
            worker.connect(lanes)

    def run(self, order: CheckOrder[Answer]) -> Answer:
        """What the worker answers whose lane this thread's piece runs on.

        Raises:
            LaneLost: it died first.
            WorkerFailure: the order raised something there.
        """
        piece = current_piece()
        assert piece is not None
        assert piece.lane is not None
        return self._workers[piece.lane].run(order)

    @property
    def ready(self) -> int:
        """Workers that can compute now."""
        return sum(worker.is_ready for worker in self._workers)

    @property
    def deaths(self) -> int:
        """Workers that have died or were killed because they hung, since the start."""
        return sum(worker.deaths for worker in self._workers)

    @property
    def process_ids(self) -> list[int]:
        """Ids of the running processes."""
        return [number for worker in self._workers if (number := worker.process_id) is not None]

    def close(self) -> None:
        """End all workers, and wait until they are gone."""
        atexit.unregister(self.close)
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.join()
