"""Dynamic batching: items that arrive while a batch runs form the next batch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from equipoise.errors import UsageError, out_of_memory

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _PendingItem(Generic[Item, Result]):
    item: Item
    future: Future[Result]


class Batcher(Generic[Item, Result]):
    """Collects single requests into batches for one worker thread.

    A batch that fails is tried again one by one, so that one bad item takes no others with it; a batch that does not
    fit into memory is halved, and later ones are no larger.

    Args:
        run: one result for each item, in order; only ever called from the worker thread.
        size: items in a batch at most.
        window: seconds to wait for more items when a batch is not full and nothing runs.
        alike: only items for which this is equal share a batch.
        split: whether a failed batch is tried again one by one; False where `run` must see an item only once.
        name: of the thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        size: int,
        window: float = 0.0,
        alike: Callable[[Item], Hashable] | None = None,
        split: bool = True,
        name: str = "batches",
    ) -> None:
        if size < 1:
            raise UsageError(f"expected a batch size of at least 1, got {size}; try 8")
        self.size = size
        self._run = run
        self._window = window
        self._alike: Callable[[Item], Hashable] = alike or (lambda item: None)
        self._split = split
        self._name = name
        self._waiting: deque[_PendingItem[Item, Result]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, item: Item) -> Future[Result]:
        """Queue an item; one whose future is cancelled before its batch begins is left out."""
        entry: _PendingItem[Item, Result] = _PendingItem(item, Future())
        with self._changed:
            if self._closed:
                raise UsageError("expected an open batcher, got a closed one; try a new one")
            self._waiting.append(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return entry.future

    def close(self) -> None:
        """Process the queued items, then end the thread; returns when it has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer([entry for entry in batch if entry.future.set_running_or_notify_cancel()])

    def _next(self) -> list[_PendingItem[Item, Result]]:
        """The next batch; empty when there will be none."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            # Nothing runs now, as this is the worker's own thread. Waiting pays, as a full batch takes about as
            # long as a single item; while a batch runs, items gather anyway.
            deadline = time.monotonic() + self._window
            while len(self._waiting) < self.size and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            # The oldest item decides which kind goes next, so that no kind waits for ever behind a more frequent one.
            kind = self._alike(self._waiting[0].item)
            batch: list[_PendingItem[Item, Result]] = []
            others: deque[_PendingItem[Item, Result]] = deque()
            for entry in self._waiting:
                fits = len(batch) < self.size and self._alike(entry.item) == kind
                (batch if fits else others).append(entry)
            self._waiting = others
            return batch

    def _answer(self, batch: list[_PendingItem[Item, Result]]) -> None:
        if not batch:
            return
        try:
            results = self._run([entry.item for entry in batch])
            answered = list(zip(batch, results, strict=True))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to those who wait
            self._failed(batch, error)
            return
        for entry, result in answered:
            entry.future.set_result(result)

    def _failed(self, batch: list[_PendingItem[Item, Result]], error: BaseException) -> None:
        if len(batch) == 1 or not self._split:
            for entry in batch:
                entry.future.set_exception(error)
        elif out_of_memory(error):
            # The new size stays: what did not fit once will not fit later either, and every attempt costs a pass.
            half = len(batch) // 2
            self.size = min(self.size, max(1, half))
            # The traceback holds the tensors that did not fit.
            error.__traceback__ = None
            while batch:
                part, batch = batch[: self.size], batch[self.size :]
                self._answer(part)
        else:
            for entry in batch:
                self._answer([entry])
