"""A process of `CheckPool`: loads a guard, then computes what it is told, a thread for each piece.

Messages come as `(number, message)`, answers go as `(number, kind, value)`. A message is a `CheckOrder`, which begins a
piece, or a bool for a piece that has paused: go on, or end. An answer is `PAUSED` at each checkpoint, where the piece
waits for that bool, or the last one, `DONE` or `FAILED`. The pool asks for one piece at a time; while one is paused, it
may begin others. So the pool's turns and time limits hold for pieces that compute here.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

from equipoise.errors import EquipoiseError
from equipoise.execution.spawn import end_with_parent
from equipoise.guard.check_orders import CheckOrder
from equipoise.guard.checkpoints import Abandoned, pausing
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy

GuardLoader = Callable[[], GuardPipeline]
"""Loads a guard; pickled, so it stands in an importable module."""
AnswerKind = Literal["paused", "done", "failed"]
PAUSED: Final[AnswerKind] = "paused"
DONE: Final[AnswerKind] = "done"
FAILED: Final[AnswerKind] = "failed"
THREADS: Final = 1024
"""Pieces that may have paused; the executor takes fewer."""


@dataclass(frozen=True)
class LoadedGuard:
    """A worker's first words: what it has loaded."""

    name: str
    """Of the detector."""
    identity: str
    """Of the detector."""
    policy: Policy
    """The guard's own."""
    together: int
    """See `GuardPipeline.together`."""


class CheckWorker:
    """The pieces of one process.

    Args:
        pipeline: computes.
        pipe: to the pool.
    """

    def __init__(self, pipeline: GuardPipeline, pipe: Connection) -> None:
        self._pipeline = pipeline
        self._pipe = pipe
        self._sending = threading.Lock()
        self._paused: dict[int, queue.SimpleQueue[bool]] = {}
        self._threads = ThreadPoolExecutor(THREADS, "checks")

    def serve(self) -> None:
        """Do what the pool says until the pipe ends.

        Raises:
            EOFError: it has ended.
        """
        while True:
            number, message = self._pipe.recv()
            if isinstance(message, CheckOrder):
                self._paused[number] = queue.SimpleQueue()
                self._threads.submit(self._run, number, message)
            elif number in self._paused:
                self._paused[number].put(message)

    def _run(self, number: int, order: CheckOrder[Any]) -> None:
        """One piece, from its beginning to its end."""

        def pause() -> None:
            self._send(number, PAUSED, None)
            turn = self._paused[number]
            if not turn.get():
                # Said once, it holds for every later checkpoint, should somebody go on after `Abandoned`.
                turn.put(False)
                raise Abandoned

        try:
            with pausing(pause):
                result = order.run(self._pipeline)
        except Abandoned:
            # The pool asks for this piece no more.
            self._paused.pop(number)
            return
        except Exception as error:  # noqa: BLE001 - whoever waits for the piece gets it
            kind, value = FAILED, str(error)
        except BaseException as error:  # noqa: BLE001 - the piece has failed, the process has not
            kind, value = FAILED, f"{type(error).__name__}: {error}"
        else:
            kind, value = DONE, result
        self._paused.pop(number)
        try:
            self._send(number, kind, value)
        except Exception as error:  # noqa: BLE001 - a result that cannot be pickled
            self._send(number, FAILED, f"{type(error).__name__}: {error}")

    def _send(self, number: int, kind: AnswerKind, value: Any) -> None:
        # A piece that was ended may still say something while the next one does; whole messages do no harm.
        with self._sending:
            try:
                self._pipe.send((number, kind, value))
            except OSError:
                os._exit(1)


def serve_checks(load: GuardLoader, pipe: Connection) -> None:
    """The main function of a process: load, then compute until the pipe ends."""
    # Both reach all processes of a terminal or of a service. The starting process gets them, too: it finishes what it
    # has begun, and then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()
    try:
        pipeline = load()
        pipe.send(LoadedGuard(pipeline.detector.name, pipeline.detector.identity, pipeline.policy, pipeline.together))
    except EquipoiseError as error:
        # A traceback holds tensors, and cannot be pickled.
        pipe.send(error.with_traceback(None))
        return
    try:
        CheckWorker(pipeline, pipe).serve()
    finally:
        # Not an ordinary end, which would wait for threads that compute.
        os._exit(0)
