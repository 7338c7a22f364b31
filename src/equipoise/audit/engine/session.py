"""What one call of `ask` shares with the solver and the scorers that inspect runs for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import anyio

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.batched_judge import BatchedJudge
from equipoise.audit.engine.batching import Batcher
from equipoise.audit.engine.failures import Failure
from equipoise.audit.records import ReplyRow, VerdictRow
from equipoise.types import ChatModel, Exchange, Verdict

KEY_VARIABLE: Final = "EQUIPOISE_API_KEY"
"""Not that of any provider, so that no key reaches a host for which it was not meant."""

HOPELESS: Final = 3
"""So many failures in a row that the next prompt would most likely share end the asking."""
MAX_CONSECUTIVE_FAILURES: Final = 25
"""So many failures of any kind in a row end it, too."""


@runtime_checkable
class IdentifiedJudge(Protocol):
    """A judge that says which one it is."""

    @property
    def identity(self) -> str:
        """Changes whenever its verdicts could."""
        ...

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        ...


@dataclass(frozen=True)
class EvaluationTarget:
    """Who is asked: a model in this process, or one that inspect reaches."""

    name: str
    """What the user called it."""
    revision: str
    """Which weights exactly; empty where that cannot be known."""
    model: ChatModel | None = None
    """The model in this process; None means `spec` is asked."""
    spec: str | None = None
    """inspect's name of a model, such as `openai/gpt-4o`, or `http://host:port/v1#NAME`."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for inspect's provider (`-M` on its command line), such as `{"stream": True}`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of a reply in inspect's words, over ours: `{"temperature": None}` for servers that take none."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the key for an `http://` target; a dummy is sent where it is not set."""

    @property
    def who(self) -> str:
        """Name and revision, as replies record them."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class CollectionProgress:
    """How far a call of `ask` is."""

    done: int
    """Samples that have their reply and verdict, or failed for good; those that were reused count."""
    total: int
    """Samples that can be asked."""
    failed: int
    """Samples among `done` without a reply."""
    seconds: float
    """Since the call began."""


@dataclass(frozen=True)
class CollectionOutcome:
    """What a call of `ask` did."""

    sent: int
    """Prompts that were sent and got a reply now."""
    reused: int
    """Prompts whose reply was in the store."""
    failed: int
    """Prompts that were sent and got none, for a reason in the store."""
    unasked: int
    """Prompts left alone because of `fatal`."""
    judged: int
    """Verdicts written now."""
    fatal: str | None
    """Why asking stopped early, in one line; None when it did not."""


ProgressSink = Callable[[CollectionProgress], None]


class CollectionSession:
    """One call of `ask`: its stores, its judge, and when to give up."""

    def __init__(
        self,
        target: EvaluationTarget,
        judge: IdentifiedJudge,
        *,
        known: Mapping[str, ReplyRow],
        replies: AppendOnlyLog[ReplyRow],
        verdicts: AppendOnlyLog[VerdictRow],
        total: int,
        done: int,
        retries: int,
        lines: int,
        progress: ProgressSink | None,
    ) -> None:
        self.target = target
        self.known = known
        self.retries = retries
        self.judging = BatchedJudge(judge)
        self.identity = judge.identity
        # Rows that wait while the disk is busy are written together. Never again one by one: a row is written once.
        self.replies: Batcher[ReplyRow, None] = Batcher(_writer(replies), size=256, split=False, name="replies")
        self.verdicts: Batcher[VerdictRow, None] = Batcher(_writer(verdicts), size=256, split=False, name="verdicts")
        self.pilot = anyio.Lock()
        self.under_way = anyio.Semaphore(lines)
        """A prompt keeps its place until its reply is on the disk: a kill loses no more replies than these."""
        self.fatal: str | None = None
        self.error: BaseException | None = None
        self.proven = target.model is not None
        """Whether prompts may go out side by side; a server is tried with one first."""
        self.asked = self.reused = self.failed = self.unasked = self.judged = 0
        self._left = total - done
        self._total = total
        self._done = done
        self._progress = progress
        self._began = time.monotonic()
        self._last = ""
        self._row = self._row_of_same = 0
        self._written: set[str] = set()

    def succeeded(self) -> None:
        """A reply came, or a refusal."""
        self.asked += 1
        self.proven = True
        self._last, self._row, self._row_of_same = "", 0, 0

    def gave_up(self, failure: Failure) -> None:
        """A prompt failed for good; ends the asking where the next ones would fail, too."""
        self.failed += 1
        self._row += 1
        self._row_of_same = self._row_of_same + 1 if failure.line == self._last else 1
        self._last = failure.line
        if failure.hopeless and (not self.proven or self._row_of_same >= HOPELESS):
            self.stop(f"{self.target.name} cannot be asked: {failure.line}")
        elif self._row >= MAX_CONSECUTIVE_FAILURES:
            self.stop(f"{self.target.name} failed {self._row} times in a row, at last with: {failure.line}")
        elif not failure.hopeless:
            self.proven = self.proven or failure.kind == "broken"

    def first(self, key: str) -> bool:
        """Whether a sample's verdict is asked for the first time, so that it has to be written."""
        if key in self._written:
            return False
        self._written.add(key)
        return True

    def stop(self, why: str) -> None:
        """Ask nothing more; the first reason stays."""
        self.fatal = self.fatal or why

    def broke(self, error: BaseException) -> None:
        """Something of ours failed, such as the disk; `ask` raises it at the end."""
        self.error = self.error or error
        self.stop(str(error))

    def leave(self) -> bool:
        """A sample is over, whatever came of it; whether it was the last."""
        self._left -= 1
        return self._left == 0

    def finished(self) -> None:
        """A sample is done."""
        self._done += 1
        self.report()

    def report(self) -> None:
        """Tell the caller how far it is."""
        if self._progress:
            seconds = time.monotonic() - self._began
            self._progress(CollectionProgress(self._done, self._total, self.failed, seconds))

    def close(self) -> None:
        """Write what waits, and end the threads."""
        for batches in (self.replies, self.verdicts):
            batches.close()
        self.judging.close()

    @property
    def lost(self) -> int:
        """Samples that are neither done nor left alone on purpose."""
        return self._total - self._done - self.unasked

    @property
    def outcome(self) -> CollectionOutcome:
        """What has been done so far."""
        return CollectionOutcome(self.asked, self.reused, self.failed, self.unasked, self.judged, self.fatal)


def _writer(ledger: AppendOnlyLog[Any]) -> Callable[[Sequence[Any]], list[None]]:
    def write(rows: Sequence[Any]) -> list[None]:
        ledger.append(rows)
        return [None] * len(rows)

    return write


current: ContextVar[CollectionSession | None] = ContextVar("equipoise_session", default=None)
"""The call of `ask` in which inspect runs our solver and scorers; None where a user runs inspect directly."""
