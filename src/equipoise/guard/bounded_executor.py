"""`BoundedExecutor` runs slow work off the event loop: fair turns, a bounded queue, a time limit and a breaker.

On each lane one piece computes at any moment. There is one lane where work is computed in this process, and one for
each worker process where there are some (`check_pool`). A long piece calls `checkpoint` between its batches: there it
ends if its caller has given up, and lets others go first. Who goes next is decided twice: among clients the one whose
last turn is the longest ago; among a client's pieces the one that has computed least so far (short work overtakes long
work), where each second of waiting makes up for some computing, so that long work is not starved. A piece that pauses
keeps its thread and its lane; those that have not begun need none.

Where work is cheaper together (`prepare`), a piece that begins also computes what others that wait will need. Each of
them still has its own turn, in which it finds that done: whoever decides, fails or leaves does so alone. Nothing waits
for company.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar, cast

from equipoise.guard.checkpoints import Abandoned, LaneLost, pausing
from equipoise.guard.decision import CheckFailure
from equipoise.guard.turns import FairTurns, WorkPiece

Result = TypeVar("Result")
FAILURES: Final = 5
"""Timeouts in a row, during which nothing went on, that open the breaker."""
REST: Final = 10.0
"""Seconds after which an open breaker lets work try again; the next such timeout opens it for as long again."""
SHARE: Final = 0.75
"""Of the queue that one client may take; the rest is for others."""
IDLE: Final = 4
"""Threads that are kept for the next work."""
LOST: Final = "the worker of {} that computed this has died"
CLIENT: Final[ContextVar[str]] = ContextVar("client", default="")
"""The client that work is for: a key's name or an address; work without a client shares the empty name."""


class CheckUnavailable(Exception):
    """Work that was not done.

    Args:
        why: in words.
        kind: no room at all, no room for this client, no time, or work that hangs.
    """

    def __init__(self, why: str, kind: CheckFailure) -> None:
        super().__init__(why)
        self.kind = kind


class BoundedExecutor:
    """Runs one piece of work at a time on each lane.

    Args:
        name: of the threads, and what people call the work.
        seconds: for one piece, waiting included.
        waiting: pieces that may be on their way; more are not taken.
        lanes: that are open at first; see `open_lane`.
        prepare: computes what pieces share, from their materials; if it raises, nothing was shared.
        together: pieces that one call of `prepare` may be about; with 1 it is never called.
    """

    def __init__(
        self,
        name: str,
        *,
        seconds: float = 30.0,
        waiting: int = 256,
        lanes: Sequence[int] = (0,),
        prepare: Callable[[list[Any]], None] | None = None,
        together: int = 1,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.waiting = waiting
        self._together = together
        self._prepare = prepare
        self._lock = threading.Lock()
        self._turns = FairTurns()
        self._open = set(lanes)
        self._holders: dict[int, WorkPiece] = {}
        self._busy: Counter[str] = Counter()
        self._idle = 0
        self._starts: queue.SimpleQueue[WorkPiece | None] = queue.SimpleQueue()
        self._closed = False
        self._progress = 0
        self._failures = 0
        self._opened = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: work is refused at once."""
        return self._failures >= FAILURES and time.monotonic() - self._opened < REST

    @property
    def hangs(self) -> float:
        """The longest time for which a piece has computed without a checkpoint, in seconds; 0 where none computes."""
        with self._lock:
            return time.monotonic() - min((piece.began for piece in self._holders.values()), default=time.monotonic())

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

    def open_lane(self, number: int) -> None:
        """Let pieces be computed on a lane from now on."""
        with self._lock:
            if not self._closed:
                self._open.add(number)
                self._next()

    def close_lane(self, number: int) -> None:
        """Give a lane no more pieces; those that paused there raise `LaneLost`."""
        with self._lock:
            self._open.discard(number)
            for piece in [piece for piece in self._turns.ready if piece.lane == number]:
                piece.lane = None
                if piece.paused:
                    self._turns.ready.remove(piece)
                    piece.lost = True
                    piece.turn.set()
            self._next()

    async def run(self, work: Callable[[], Result], seconds: float | None = None, *, material: Any = None) -> Result:
        """What the work returns or raises.

        Args:
            work: called on a thread.
            seconds: instead of the executor's own.
            material: what `prepare` needs of it; None computes it by itself.

        Raises:
            CheckUnavailable: it was not taken, or took too long; it then ends at its next checkpoint.
            LaneLost: what computed it has died.
        """
        if self.is_open:
            raise CheckUnavailable(f"the breaker is open: {self.name} hang", "hanging")
        seconds = self.seconds if seconds is None else seconds
        loop = asyncio.get_running_loop()
        with self._lock:
            if (full := self._full(CLIENT.get())) is not None:
                raise full
            piece = WorkPiece(work, CLIENT.get(), loop, loop.create_future(), self._progress, material=material)
            self._busy[piece.client] += 1
            self._turns.ready.append(piece)
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

    def _leave(self, piece: WorkPiece) -> None:
        """Give a piece up: it is never begun, or ends at its next checkpoint."""
        with self._lock:
            piece.gone = True
            if piece in self._turns.ready and not piece.paused:
                self._turns.ready.remove(piece)
                self._count_out(piece)

    def _count_out(self, piece: WorkPiece) -> None:
        self._busy[piece.client] -= 1
        if not self._busy[piece.client]:
            del self._busy[piece.client]
            self._turns.forget(piece.client)

    def _next(self) -> None:
        """Begin a turn on each lane where no piece computes; the lock is held."""
        for number in sorted(self._open - self._holders.keys()):
            # Where no thread could be started, the turns behind this one have been given already.
            if number not in self._holders and (piece := self._turns.best(number)) is not None:
                self._begin(piece, number)

    def _begin(self, piece: WorkPiece, number: int) -> None:
        """Give a piece its turn; the lock is held."""
        self._turns.take(piece, number)
        self._holders[number] = piece
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

    def _start(self, piece: WorkPiece) -> None:
        """Begin a piece on a new thread; the lock is held."""
        try:
            threading.Thread(target=self._work, args=(piece,), name=self.name, daemon=True).start()
        except RuntimeError as error:
            # The system has no thread left. The turn must go on to the next piece, or nothing would ever be checked
            # again; a paused one needs no new thread.
            self._release(piece)
            self._count_out(piece)
            self._deliver(piece, None, CheckUnavailable(f"no thread for {self.name}: {error}", "overloaded"))
            self._next()

    def _release(self, piece: WorkPiece) -> None:
        """End a piece's turn, if it has one; the lock is held."""
        if piece.lane is not None and self._holders.get(piece.lane) is piece:
            del self._holders[piece.lane]

    @staticmethod
    def _deliver(piece: WorkPiece, result: Any, error: BaseException | None) -> None:
        """Give a piece's end to the caller, whose event loop may have been closed meanwhile."""
        with suppress(RuntimeError):
            piece.loop.call_soon_threadsafe(_end, piece.future, result, error)

    def _pause(self, piece: WorkPiece) -> None:
        with self._lock:
            now = time.monotonic()
            if piece.used:
                # The first checkpoint may lie before all computing, so it shows nothing.
                self._progress += 1
                self._failures = 0
            piece.used += now - piece.began
            piece.began = now
            if piece.gone:
                raise Abandoned
            assert piece.lane is not None
            if piece.lane not in self._open:
                raise LaneLost(LOST.format(self.name))
            if self._turns.best(piece.lane) is None:
                return
            # The event is cleared before `_next`, which may give the turn straight back to this piece: cleared later,
            # that wake-up would be lost, and the piece would sleep for ever while it holds the turn.
            piece.turn.clear()
            piece.paused = True
            self._turns.ready.append(piece)
            self._release(piece)
            self._next()
        # Outside of the lock: others compute while this thread waits.
        piece.turn.wait()
        if piece.lost:
            raise LaneLost(LOST.format(self.name))
        if piece.gone:
            raise Abandoned

    def _work(self, first: WorkPiece) -> None:
        """The loop of one thread: the piece that it was started for, then further pieces."""
        piece: WorkPiece | None = first
        while piece is not None:
            result: Any = None
            error: BaseException | None = None
            try:
                with pausing(partial(self._pause, piece), piece):
                    self._share(piece)
                    result = piece.work()
            except Exception as raised:  # noqa: BLE001 - the caller that waits for the result gets it
                error = raised
            except BaseException as raised:  # noqa: BLE001 - the event loop would take it for its own end
                error = RuntimeError(f"{type(raised).__name__}: {raised}")
            self._count_done(piece)
            self._deliver(piece, result, error)
            # Neither may be kept alive while this thread waits.
            result = error = None
            with self._lock:
                if self._closed or self._idle >= IDLE:
                    return
                self._idle += 1
            piece = self._starts.get()

    def _share(self, first: WorkPiece) -> None:
        """Compute what a piece shares with others that wait, if there are any."""
        if self._prepare is None or self._together < 2 or first.material is None:
            return
        with self._lock:
            company = self._turns.company(first, self._together)
            if len(company) < 2:
                return
            materials = [piece.material for piece in company]
            for piece in company:
                # They go on on this lane, where what is prepared for them will be.
                piece.material, piece.lane = None, first.lane
        # Whatever is wrong with one of them shows in its own turn, and in nobody else's.
        with suppress(Exception):
            self._prepare(materials)

    def _count_done(self, piece: WorkPiece) -> None:
        """End a piece's turn and begin the next."""
        with self._lock:
            self._progress += 1
            if not piece.gone:
                self._failures = 0
            self._release(piece)
            self._count_out(piece)
            self._next()

    def close(self) -> None:
        """Let nothing more start; what runs ends at its next checkpoint, or with the process."""
        with self._lock:
            self._closed = True
            # What has not begun fails at once. What has begun owns a thread, so it is only marked, and ends itself.
            for piece in [piece for piece in self._turns.ready if not piece.paused]:
                self._turns.ready.remove(piece)
                self._count_out(piece)
                self._deliver(piece, None, CheckUnavailable("the gateway is closing", "overloaded"))
            for piece in [*self._turns.ready, *self._holders.values()]:
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
