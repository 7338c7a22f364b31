"""`BoundedExecutor` runs slow work off the event loop: fair turns, a bounded queue, a time limit and a breaker.

Only one piece computes at any moment, as if there were one thread. A long piece calls `checkpoint` between its batches:
there it ends if its caller has given up, and lets others go first. Who goes next is decided twice: among clients
the one whose last turn is the longest ago; among a client's pieces the one that has computed least so far (short work
overtakes long work), where each second of waiting makes up for some computing, so that long work is not starved. A
piece that pauses keeps its thread; those that have not begun need none.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from equipoise.guard.decision import CheckFailure

Result = TypeVar("Result")
FAILURES: Final = 5
"""Timeouts in a row, during which nothing went on, that open the breaker."""
REST: Final = 10.0
"""Seconds after which an open breaker lets work try again; the next such timeout opens it for as long again."""
SHARE: Final = 0.75
"""Of the queue that one client may take; the rest is for others."""
AGING: Final = 0.1
"""Seconds of computing that a second of waiting makes up for."""
IDLE: Final = 4
"""Threads that are kept for the next work."""
CLIENT: Final[ContextVar[str]] = ContextVar("client", default="")
"""The client that work is for: a key's name or an address; work without a client shares the empty name."""
_own = threading.local()


class CheckUnavailable(Exception):
    """Work that was not done.

    Args:
        why: in words.
        kind: no room at all, no room for this client, no time, or work that hangs.
    """

    def __init__(self, why: str, kind: CheckFailure) -> None:
        super().__init__(why)
        self.kind = kind


class Abandoned(BaseException):
    """The caller has given this work up. Not an `Exception`, so that no detector takes it for its own failure."""


def checkpoint() -> None:
    """To be called between two parts of long work; does nothing outside of an executor.

    Raises:
        Abandoned: the caller no longer waits.
    """
    current: tuple[BoundedExecutor, _Piece] | None = getattr(_own, "current", None)
    if current is not None:
        current[0]._pause(current[1])


@dataclass(eq=False)
class _Piece:
    """Work on its way."""

    work: Callable[[], Any]
    client: str
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    progress: int
    """The executor's count of progress when the piece came."""
    arrived: float = field(default_factory=time.monotonic)
    used: float = 0.0
    """Seconds that it has computed."""
    began: float = 0.0
    """When its turn began."""
    paused: bool = False
    """Whether it has begun and waits for its next turn."""
    gone: bool = False
    """Whether its caller has given up."""
    turn: threading.Event = field(default_factory=threading.Event)

    def order(self, now: float) -> float:
        return self.used - AGING * (now - self.arrived)


class BoundedExecutor:
    """Runs one piece of work at a time.

    Args:
        name: of the threads, and what people call the work.
        seconds: for one piece, waiting included.
        waiting: pieces that may be on their way; more are not taken.
    """

    def __init__(self, name: str, *, seconds: float = 30.0, waiting: int = 256) -> None:
        self.name = name
        self.seconds = seconds
        self.waiting = waiting
        self._lock = threading.Lock()
        self._ready: list[_Piece] = []
        self._holder: _Piece | None = None
        self._busy: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        self._turns = 0
        self._idle = 0
        self._starts: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._closed = False
        self._progress = 0
        self._moved = time.monotonic()
        self._failures = 0
        self._opened = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: work is refused at once."""
        return self._failures >= FAILURES and time.monotonic() - self._opened < REST

    @property
    def hangs(self) -> float:
        """Seconds for which the piece that computes has neither ended nor reached a checkpoint; 0 where none does."""
        with self._lock:
            return time.monotonic() - self._moved if self._holder is not None else 0.0

    def refusal(self) -> CheckUnavailable | None:
        """Why a further piece of this client would not be taken now; None where it would."""
        if self.is_open:
            return CheckUnavailable(f"the breaker is open: {self.name} hang", "hanging")
        with self._lock:
            return self._full(CLIENT.get())

    def _full(self, client: str) -> CheckUnavailable | None:
        if self._closed:
            return CheckUnavailable(f"no more {self.name} are taken: the gateway is closing", "overloaded")
        if self._busy.total() >= self.waiting:
            return CheckUnavailable(f"{self.waiting} {self.name} wait already", "overloaded")
        share = math.ceil(self.waiting * SHARE)
        if self._busy[client] >= share:
            return CheckUnavailable(f"{share} {self.name} of this client wait already", "crowded")
        return None

    async def run(self, work: Callable[[], Result], seconds: float | None = None) -> Result:
        """What the work returns or raises.

        Args:
            work: called on a thread.
            seconds: instead of the executor's own.

        Raises:
            CheckUnavailable: it was not taken, or took too long; it then ends at its next checkpoint.
        """
        if self.is_open:
            raise CheckUnavailable(f"the breaker is open: {self.name} hang", "hanging")
        seconds = self.seconds if seconds is None else seconds
        loop = asyncio.get_running_loop()
        with self._lock:
            if (full := self._full(CLIENT.get())) is not None:
                raise full
            piece = _Piece(work, CLIENT.get(), loop, loop.create_future(), self._progress)
            self._busy[piece.client] += 1
            self._ready.append(piece)
            self._next()
        try:
            # `wait`, not `wait_for`: on a timeout the future stays usable, and the thread that computes may still end
            # it. A caller that is cancelled (its client hung up) leaves through `finally` as well.
            await asyncio.wait({piece.future}, timeout=seconds)
        finally:
            if not piece.future.done():
                self._leave(piece)
        if not piece.future.done():
            # A timeout alone proves nothing: behind long work a short piece is late, too. Only where no piece ended or
            # passed a checkpoint in all this time does something hang.
            if piece.progress == self._progress:
                self._failures += 1
                self._opened = time.monotonic()
            raise CheckUnavailable(f"no answer within {seconds:g} seconds", "late")
        return cast("Result", piece.future.result())

    def _leave(self, piece: _Piece) -> None:
        """Give a piece up: it is never begun, or ends at its next checkpoint."""
        with self._lock:
            piece.gone = True
            if piece in self._ready and not piece.paused:
                self._ready.remove(piece)
                self._count_out(piece)

    def _count_out(self, piece: _Piece) -> None:
        self._busy[piece.client] -= 1
        if not self._busy[piece.client]:
            # Clients without work are removed, or this would grow with every client that ever asked.
            del self._busy[piece.client]
            self._served.pop(piece.client, None)

    def _best(self) -> _Piece:
        """The piece whose turn it is; abandoned ones first, since they only end."""
        now = time.monotonic()
        # Between clients: round robin by the number of the last turn, so that a client gains nothing by sending more.
        # Within a client: least computing first, aged by waiting (`_Piece.order`), so that nothing waits for ever.
        return min(self._ready, key=lambda piece: (not piece.gone, self._served.get(piece.client, 0), piece.order(now)))

    def _next(self) -> None:
        """Begin a turn if no piece computes; the lock is held."""
        if self._holder is not None or not self._ready:
            return
        piece = self._best()
        self._ready.remove(piece)
        self._holder = piece
        self._turns += 1
        self._served[piece.client] = self._turns
        piece.began = self._moved = time.monotonic()
        # A paused piece has a thread with its stack already: it is woken. Another one takes a waiting thread, or a new
        # one. The count of idle threads goes down here, under the lock: in the thread, one could be given away twice.
        if piece.paused:
            piece.paused = False
            piece.turn.set()
        elif self._idle:
            self._idle -= 1
            self._starts.put(piece)
        else:
            self._start(piece)

    def _start(self, piece: _Piece) -> None:
        """Begin a piece on a new thread; the lock is held."""
        try:
            threading.Thread(target=self._work, args=(piece,), name=self.name, daemon=True).start()
        except RuntimeError as error:
            # The system has no thread left. The turn must go on to the next piece, or nothing would ever be checked
            # again; a paused one needs no new thread.
            self._holder = None
            self._count_out(piece)
            self._deliver(piece, None, CheckUnavailable(f"no thread for {self.name}: {error}", "overloaded"))
            self._next()

    @staticmethod
    def _deliver(piece: _Piece, result: Any, error: BaseException | None) -> None:
        """Give a piece's end to the caller, whose event loop may have been closed meanwhile."""
        with suppress(RuntimeError):
            piece.loop.call_soon_threadsafe(_end, piece.future, result, error)

    def _pause(self, piece: _Piece) -> None:
        with self._lock:
            now = time.monotonic()
            self._moved = now
            if piece.used:
                # The first checkpoint may lie before all computing, so it shows nothing.
                self._progress += 1
                self._failures = 0
            piece.used += now - piece.began
            piece.began = now
            if piece.gone:
                raise Abandoned
            if not self._ready:
                return
            # The event is cleared before `_next`, which may give the turn straight back to this piece: cleared later,
            # that wake-up would be lost, and the piece would sleep for ever while it holds the turn.
            piece.turn.clear()
            piece.paused = True
            self._ready.append(piece)
            self._holder = None
            self._next()
        # Outside of the lock: others compute while this thread waits.
        piece.turn.wait()
        if piece.gone:
            raise Abandoned

    def _work(self, first: _Piece) -> None:
        """The loop of one thread: the piece that it was started for, then further pieces."""
        piece: _Piece | None = first
        while piece is not None:
            result: Any = None
            error: BaseException | None = None
            _own.current = (self, piece)
            try:
                result = piece.work()
            except Exception as raised:  # noqa: BLE001 - the caller that waits for the result gets it
                error = raised
            except BaseException as raised:  # noqa: BLE001 - the event loop would take it for its own end
                error = RuntimeError(f"{type(raised).__name__}: {raised}")
            finally:
                _own.current = None
            self._count_done(piece)
            self._deliver(piece, result, error)
            # Neither may be kept alive while this thread waits.
            result = error = None
            with self._lock:
                if self._closed or self._idle >= IDLE:
                    return
                self._idle += 1
            piece = self._starts.get()

    def _count_done(self, piece: _Piece) -> None:
        """End a piece's turn and begin the next."""
        with self._lock:
            self._progress += 1
            if not piece.gone:
                self._failures = 0
            self._holder = None
            self._count_out(piece)
            self._next()

    def close(self) -> None:
        """Let nothing more start; what runs ends at its next checkpoint, or with the process."""
        with self._lock:
            self._closed = True
            # What has not begun fails at once. What has begun owns a thread, so it is only marked, and ends itself.
            for piece in [piece for piece in self._ready if not piece.paused]:
                self._ready.remove(piece)
                self._count_out(piece)
                self._deliver(piece, None, CheckUnavailable("the gateway is closing", "overloaded"))
            for piece in [*self._ready, *([self._holder] if self._holder is not None else [])]:
                piece.gone = True
            # None tells an idle thread to end.
            for _ in range(self._idle):
                self._starts.put(None)


def _end(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
        # The caller may have given up; reading the exception keeps asyncio from logging it.
        future.exception()
