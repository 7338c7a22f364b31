"""Workers as processes of this machine, each started anew (spawn), one for each GPU or group of cores.

Not `concurrent.futures.ProcessPoolExecutor`: a process that dies breaks the whole pool with all that waits in it, and
does not say over which item it died. The parts below it do: a process with a pipe has an exit code, can be killed, and
`multiprocessing.connection.wait` waits for replies and deaths alike.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from equipoise.execution.backend import WorkerBackend, WorkerDeath, WorkerEvent
from equipoise.execution.items import Parcel
from equipoise.execution.worker import WorkerLaunch

JOIN_SECONDS: Final = 10.0
"""Seconds to wait for a killed process to be gone."""


@dataclass(frozen=True)
class SpawnedProcess:
    """A process that was started anew, and our end of the pipe to it."""

    process: SpawnProcess
    pipe: Connection

    @classmethod
    def start(cls, name: str, target: Callable[[Any, Connection], None], argument: Any) -> SpawnedProcess:
        """Start a process; it ends with this one at the latest (`end_with_parent`).

        Args:
            name: of the process.
            target: its main function, which stands in an importable module.
            argument: pickled; `target` gets it, and the other end of the pipe.
        """
        context = multiprocessing.get_context("spawn")
        # A pipe for each process, no shared queue: a process that is killed while it holds a queue's lock blocks all
        # others.
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(argument, theirs), name=name, daemon=True)
        process.start()
        # With our copy of its end closed, the pipe ends when the process does.
        theirs.close()
        return cls(process, ours)

    def bury(self) -> str:
        """Wait for its end; returns how it ended."""
        self.process.join(JOIN_SECONDS)
        code = self.process.exitcode
        if code is None:
            # Its pipe has ended, but it has not: nothing that it does counts any more.
            self.process.kill()
            self.process.join()
            return "closed its pipe"
        self.process.close()
        return f"killed by signal {-code}" if code < 0 else f"ended with code {code}"


class SpawnBackend(WorkerBackend):
    """Processes of this machine.

    Args:
        launches: what each worker begins with.
    """

    def __init__(self, launches: Sequence[WorkerLaunch]) -> None:
        self._launches = {launch.name: launch for launch in launches}
        self._running: dict[str, SpawnedProcess] = {}

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers."""
        return tuple(self._launches)

    def process_id(self, worker: str) -> int | None:
        """The id of a worker's process; None where it is not running."""
        running = self._running.get(worker)
        return running.process.pid if running else None

    def start(self, worker: str) -> None:
        """Start a process, which loads."""
        self._running[worker] = SpawnedProcess.start(worker, _serve, self._launches[worker])

    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        """Send an item; a process that has just died is reported by `wait`."""
        with suppress(OSError):
            self._running[worker].pipe.send((key, parcel))

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Replies, and deaths with the signal or the exit code."""
        workers = {running.pipe: name for name, running in self._running.items()}
        events: list[WorkerEvent] = []
        for pipe in connection.wait(list(workers), seconds):
            name = workers[pipe]  # type: ignore[index]
            try:
                reply = self._running[name].pipe.recv()
            except (EOFError, OSError):
                events.append((name, WorkerDeath(self._bury(name))))
                continue
            if isinstance(reply, Exception):
                raise reply
            events.append((name, reply))
        return events

    def stop(self, worker: str) -> None:
        """Kill a process."""
        running = self._running.get(worker)
        if running is not None:
            running.process.kill()
            self._bury(worker)

    def close(self) -> None:
        """Kill all processes, then wait for all of them."""
        for running in self._running.values():
            running.process.kill()
        for worker in list(self._running):
            self._bury(worker)

    def _bury(self, worker: str) -> str:
        """Wait for the end of a process and forget it; returns how it ended."""
        running = self._running.pop(worker)
        running.pipe.close()
        return running.bury()


def _serve(launch: WorkerLaunch, pipe: Connection) -> None:
    """The main function of a process: load, then items until the pipe ends."""
    # Ctrl-C reaches all processes of a terminal. The starting process gets it too, and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        worker = launch.begin()
        pipe.send(worker.load())
        while True:
            key, parcel = pipe.recv()
            pipe.send(worker.do(key, parcel))
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - a mistake in the program is raised where the run was started
        _send_error(pipe, error)


def _send_error(pipe: Connection, error: Exception) -> None:
    import traceback

    text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        pipe.send(RuntimeError(f"a worker failed:\n{text}"))


def end_with_parent() -> None:
    """Exit as soon as the starting process is gone, also in the middle of an item: nobody waits for the result."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        # Not `sys.exit`, which only raises in this thread: the main thread may be inside a long call into torch.
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
