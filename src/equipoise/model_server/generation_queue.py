"""`GenerationQueue`: prompts of many clients, generated in batches by the one thread that owns the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

from equipoise.types import ChatModel, Exchange, Prompt


class QueueFull(Exception):
    """As many prompts wait as may."""


class QueueClosed(Exception):
    """The server stops."""


@dataclass(frozen=True, eq=False)
class _WaitingPrompt:
    """One prompt, and who waits for its reply."""

    prompt: Prompt
    max_new_tokens: int
    reply: Future[Exchange] = field(default_factory=Future)

    def fail(self, error: Exception) -> None:
        """Give an error to who waits, unless there is a reply or nobody waits."""
        with suppress(InvalidStateError):
            self.reply.set_exception(error)

    def goes_with(self, other: _WaitingPrompt) -> bool:
        """Whether one call can generate both: the length is one for a call, and pictures make another forward pass."""
        return (self.max_new_tokens, not self.prompt.pictures) == (other.max_new_tokens, not other.prompt.pictures)


class GenerationQueue:
    """Generates what waits, the oldest first, with others of its kind in the same batch.

    A prompt that the model cannot take fails alone: a batch that raises is generated again one by one. A prompt whose
    client has left is dropped before its turn.

    Args:
        model: only this queue's thread calls it, so that countermeasures with state need no lock.
        batch: prompts of one call, at most.
        waiting: prompts that wait, at most.
    """

    def __init__(self, model: ChatModel, *, batch: int = 8, waiting: int = 64) -> None:
        self.model = model
        self._batch, self._most = batch, waiting
        self._waiting: deque[_WaitingPrompt] = deque()
        self._changed = threading.Condition()
        self._running: list[_WaitingPrompt] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="generation", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many prompts wait for their turn."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether the thread still works."""
        return self._thread.is_alive()

    def submit(self, prompt: Prompt, max_new_tokens: int) -> Future[Exchange]:
        """The exchange to come; cancel it when nobody waits for it any more.

        Raises:
            QueueFull: too many wait already.
            QueueClosed: no more are taken.
        """
        item = _WaitingPrompt(prompt, max_new_tokens)
        with self._changed:
            if len(self._waiting) >= self._most:
                # Those whose clients have left take no room.
                self._waiting = deque(one for one in self._waiting if not one.reply.cancelled())
            if self._closed:
                raise QueueClosed
            if len(self._waiting) >= self._most:
                raise QueueFull
            self._waiting.append(item)
            self._changed.notify()
        return item.reply

    def stop(self) -> None:
        """Take no more prompts; those that wait fail with `QueueClosed`, the batch at hand goes on."""
        with self._changed:
            self._closed = True
            for item in self._waiting:
                item.fail(QueueClosed())
            self._waiting.clear()
            self._changed.notify()

    def abandon(self) -> None:
        """Let the batch at hand fail with `QueueClosed`; its thread, which nothing can interrupt, ends by itself."""
        for item in self._running:
            item.fail(QueueClosed())

    def close(self) -> None:
        """Stop, and wait for the end of the batch at hand."""
        self.stop()
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next()
            if batch is None:
                return
            self._running = batch
            self._generate(batch)

    def _next(self) -> list[_WaitingPrompt] | None:
        """The next batch; None once the queue is closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            first = self._waiting[0]
            chosen = [item for item in self._waiting if item.goes_with(first)][: self._batch]
            self._waiting = deque(item for item in self._waiting if item not in chosen)
        # From here on a client can no longer cancel; who has left before is dropped.
        return [item for item in chosen if item.reply.set_running_or_notify_cancel()]

    def _generate(self, batch: Sequence[_WaitingPrompt]) -> None:
        if batch and not self._generated(batch):
            # Outside the handler of the error, whose traceback holds the tensors of the batch.
            for item in batch:
                self._generated([item])

    def _generated(self, batch: Sequence[_WaitingPrompt]) -> bool:
        """Whether each prompt of a batch has got its reply, or one that is alone its error."""
        prompts = [item.prompt for item in batch]
        try:
            exchanges = self.model.generate(prompts, max_new_tokens=batch[0].max_new_tokens)
            replies = list(zip(batch, exchanges, strict=True))
        # Also those that are no `Exception`, as a panic of a tokenizer: without its thread the server would be deaf.
        except BaseException as error:  # noqa: BLE001 - each client gets its own
            if len(batch) == 1:
                # An event loop ends at a `SystemExit` that it hands to a client.
                batch[0].fail(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            return len(batch) == 1
        for item, exchange in replies:
            with suppress(InvalidStateError):
                item.reply.set_result(exchange)
        return True
