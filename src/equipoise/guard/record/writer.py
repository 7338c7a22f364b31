"""`Writer`: the thread that writes the record, and everything that may go wrong with it.

Callers wait for their entries on futures. If a caller has gone its future is cancelled, and setting a result would
raise; `set_running_or_notify_cancel` checks that first. An exception of one batch goes to the callers of that batch,
and the thread continues with the next batch. If the thread ever ends, the next entry starts another.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import InvalidStateError as Ended
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from equipoise.errors import OutputError

GROUP: Final = 256
"""Entries in one transaction, at most."""
WAITING: Final = 4096
"""Entries that may wait for their transaction."""
LATELY: Final = 10.0
"""Seconds for which a failed batch counts as trouble; after that the next one shows whether it is over."""


@dataclass(frozen=True)
class Stored:
    """The position of a stored entry in the chain."""

    number: int
    """From 1 on, without gaps."""
    hash: str
    """Over it and all before it."""


TRIAL: Final = Stored(0, "")
"""What a trial returns, which leaves no entry."""


class SingleError(Exception):
    """A batch failed because of one of its entries; the others can be written without it."""


@dataclass(eq=False)
class Pending:
    """An entry on its way to the disk."""

    text: str | None
    """Its canonical JSON; None asks only whether entries can be written."""
    done: Future[Stored] = field(default_factory=Future)
    """Ends when it is on disk, or cannot be."""

    def end(self, result: Stored | BaseException) -> None:
        """Tell who waits; nobody may."""
        with suppress(Ended):
            if isinstance(result, Stored):
                self.done.set_result(result)
            else:
                self.done.set_exception(result)


class Writer:
    """Writes entries in batches, on one thread, in the order in which they came.

    Args:
        commit: writes a batch and returns where its entries are; an empty one is a trial. `SingleError` says that each
            entry should be tried by itself.
        seconds: within which a batch must be written; one that takes longer is trouble.
    """

    def __init__(self, commit: Callable[[Sequence[str]], Sequence[Stored]], *, seconds: float) -> None:
        self._commit = commit
        self._seconds = seconds
        self._waiting: deque[Pending] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._since: float | None = None
        self._failure = ""
        self._failed_at = 0.0

    def send(self, text: str | None) -> Pending:
        """Put an entry in the line; None is a trial of the thread and of what it writes to.

        Raises:
            OutputError: it is closed, or too many wait.
        """
        with self._change:
            if self._closed:
                raise OutputError("expected an open record, got a closed one")
            if len(self._waiting) >= WAITING:
                raise OutputError(f"expected a record that keeps up, got {WAITING} entries waiting; try a faster disk")
            pending = Pending(text)
            self._waiting.append(pending)
            # Started by the first entry, and again if it ever ended: a record without a thread would take entries that
            # nobody writes.
            if self._thread is None or not self._thread.is_alive():
                self._begin(pending)
            self._change.notify_all()
        return pending

    def _begin(self, pending: Pending) -> None:
        """Start the thread; the lock is held.

        Raises:
            OutputError: the system has no thread left; the entry is out of the line again.
        """
        thread = threading.Thread(target=self._run, name="record", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._waiting.remove(pending)
            self._failure, self._failed_at = "no thread", time.monotonic()
            raise OutputError(f"expected a thread that writes the record, got none: {error}") from error
        self._thread = thread

    def give_up(self, pending: Pending) -> bool:
        """Take an entry out of the line again; False where its batch is being written already."""
        return pending.done.cancel()

    @property
    def trouble(self) -> str | None:
        """Why entries cannot be written now; None where they can."""
        # A writer that hangs (a dead network disk) raises nothing, so time is the only sign of it.
        hangs = self.hangs
        if hangs > self._seconds:
            return f"the record's writer has been at one batch for {hangs:.0f} seconds"
        if self._failure and time.monotonic() - self._failed_at < LATELY:
            return f"the record could not be written: {self._failure}"
        return None

    @property
    def hangs(self) -> float:
        """Seconds for which the thread has been at one batch; 0 where it is at none."""
        # Read once: the writer's thread may set it to None between a test and a subtraction.
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def close(self, seconds: float) -> bool:
        """Write what waits, and end; what cannot be written within the time fails.

        Returns:
            Whether all was written, or failed by itself.
        """
        with self._change:
            self._closed = True
            self._change.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        with self._change:
            left = [*self._waiting]
            self._waiting.clear()
        for pending in left:
            if pending.done.set_running_or_notify_cancel():
                pending.end(OutputError("expected a record that keeps up, got one that was closed before"))
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if not self._waiting:
                    return
                # One transaction, and so one flush to disk, for all that came while the last one was written.
                group = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
            # From here on nobody can take these back: `give_up` returns False, and the caller knows that the entry may
            # still be written.
            group = [pending for pending in group if pending.done.set_running_or_notify_cancel()]
            if group:
                self._since = time.monotonic()
                self._write(group)
                self._since = None

    def _write(self, group: Sequence[Pending]) -> None:
        """Write a batch and tell everybody who waits for it; raises nothing."""
        try:
            texts = [pending.text for pending in group if pending.text is not None]
            stored = iter(self._commit(texts))
            locations = [TRIAL if pending.text is None else next(stored, None) for pending in group]
            if None in locations or next(stored, None) is not None:
                raise RuntimeError(f"expected {len(texts)} places for entries, got others")
        except SingleError as error:
            # The transaction was rolled back as a whole. Tried one by one, only the entry that is to blame fails.
            if len(group) > 1:
                for pending in group:
                    self._write([pending])
            else:
                self._fail(group, error.__cause__ or error)
        except BaseException as error:  # noqa: BLE001 - a thread that ends would leave all later requests waiting
            self._fail(group, error)
        else:
            self._failure = ""
            for pending, location in zip(group, locations, strict=True):
                assert location is not None
                pending.end(location)

    def _fail(self, group: Sequence[Pending], error: BaseException) -> None:
        self._failure = type(error).__name__
        self._failed_at = time.monotonic()
        for pending in group:
            # Every caller gets its own exception, because raising one adds a traceback to it.
            pending.end(OutputError(f"expected to write the record, got {type(error).__name__}: {error}"))
