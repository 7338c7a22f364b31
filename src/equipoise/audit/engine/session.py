"""The state of one collection of replies, shared by the solver and the scorers that inspect runs for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import anyio

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.adaptive_limit import AdaptiveLimit
from equipoise.audit.engine.batched_judge import BatchedJudge
from equipoise.audit.engine.batching import Batcher
from equipoise.audit.records import ReplyRow, VerdictRow
from equipoise.served_models.endpoint import KEY_VARIABLE, ServedEndpoint
from equipoise.served_models.failures import Failure
from equipoise.types import ChatModel, Exchange, Verdict

MAX_PERSISTENT_FAILURES: Final = 3
"""Stop after this many consecutive failures that the next prompt would most likely share, such as a wrong key."""
MAX_CONSECUTIVE_FAILURES: Final = 25
"""Stop after this many consecutive failures of any kind."""


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


class ReportingJudge(IdentifiedJudge, Protocol):
    """A judge whose verdicts make the numbers of a report."""

    def describe(self) -> dict[str, Any]:
        """Name, identity and members."""
        ...


@dataclass(frozen=True)
class ModelOnWorkers:
    """What this process knows of a model that only its workers have loaded."""

    name: str
    """The name under which the user loads it, with its countermeasures where it has any."""
    revision: str
    """Which weights exactly."""
    reads_pictures: bool
    """Whether prompts with pictures may be sent."""
    layers: tuple[Mapping[str, Any], ...] = ()
    """Its countermeasures, as `describe_layers` gives them."""


@dataclass(frozen=True)
class EvaluationTarget:
    """The model under test: one in this process, or one that inspect reaches."""

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
    endpoint: ServedEndpoint | None = None
    """The server of an `http://` target; None makes one of `spec` and `key_variable`."""
    key_variable: str = KEY_VARIABLE
    """Environment variable with the key for an `http://` target; a dummy is sent where it is not set."""
    on_workers: ModelOnWorkers | None = None
    """The model, where workers have loaded it and this process has not."""

    @property
    def decoding(self) -> str:
        """How tokens are chosen, in words for the recipe."""
        temperature = self.endpoint.temperature if self.endpoint else self.settings.get("temperature", 0.0)
        if temperature is None:
            return "the server's default"
        return "greedy" if temperature == 0 else f"temperature {temperature:g}"

    @property
    def who(self) -> str:
        """Name and revision, as replies record them."""
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True)
class CollectionProgress:
    """How far a collection is."""

    done: int
    """Samples that have their reply and verdict, or failed for good; those that were reused count."""
    total: int
    """Samples that can be sent."""
    failed: int
    """Samples among `done` without a reply."""
    seconds: float
    """Since the call began."""
    sent: int = 0
    """Prompts that got a reply in this call."""
    at_once: int | None = None
    """Prompts that may be under way at once now, fewer than configured where the server was busy."""

    @property
    def throughput(self) -> float | None:
        """Replies a second in this call; None before the first."""
        return self.sent / self.seconds if self.sent and self.seconds > 0 else None


@dataclass(frozen=True)
class CollectionOutcome:
    """What a collection did."""

    sent: int
    """Prompts that were sent and got a reply now."""
    reused: int
    """Prompts whose reply was in the store."""
    failed: int
    """Prompts that were sent and got none, for a reason in the store."""
    not_sent: int
    """Prompts left alone because of `fatal`."""
    judged: int
    """Verdicts written now."""
    fatal: str | None
    """Why it stopped early, in one line; None when it did not."""
    accepted: int = 0
    """Prompts of the run without a reply that `--max-failed` accepted."""
    notes: tuple[str, ...] = ()
    """What was learned of the server and changes how its replies were made, such as a temperature it does not take."""


ProgressSink = Callable[[CollectionProgress], None]


class CollectionSession:
    """One collection: its stores, its judge, its counts, and the rules by which it stops early.

    The solver sends prompts side by side. A target on a server is first tried with a single prompt, because a wrong
    address or key would otherwise fail once for every connection.
    """

    def __init__(
        self,
        target: EvaluationTarget,
        judge: IdentifiedJudge,
        *,
        stored_replies: Mapping[str, ReplyRow],
        replies: AppendOnlyLog[ReplyRow],
        verdicts: AppendOnlyLog[VerdictRow],
        total: int,
        done: int,
        retries: int,
        max_wait: float,
        connections: int,
        progress: ProgressSink | None,
    ) -> None:
        self.target = target
        # The solver looks here before it sends: a prompt whose reply is on the disk is never sent twice, also not after
        # a kill.
        self.known = stored_replies
        self.retries = retries
        self.max_wait = max_wait
        self.judging = BatchedJudge(judge)
        self.identity = judge.identity
        # Rows that wait while the disk is busy are written together. Never again one by one: a row is written once.
        self.replies: Batcher[ReplyRow, None] = Batcher(_writer(replies), size=256, split=False, name="replies")
        self.verdicts: Batcher[VerdictRow, None] = Batcher(_writer(verdicts), size=256, split=False, name="verdicts")
        # Order of the locks: `first_request`, then `in_flight`. Both are held only around a request, never during a
        # pause.
        self.first_request = anyio.Lock()
        self.in_flight = AdaptiveLimit(connections)
        """Held by a prompt until its reply is on the disk, so that a kill loses no more replies than `connections`."""
        self.fatal: str | None = None
        self.error: BaseException | None = None
        self.reachable = target.model is not None
        """Whether prompts may go out side by side; a server is tried with one first."""
        self.sent = self.reused = self.failed = self.not_sent = self.judged = 0
        self._left = total - done
        self._total = total
        self._done = done
        self._progress = progress
        self._began = time.monotonic()
        self._last_failure = ""
        self._failures = self._same_failures = 0
        self._written: set[str] = set()

    def record_reply(self) -> None:
        """Count a reply; a refusal is one."""
        self.sent += 1
        self.reachable = True
        # Counts of failures *in a row*: one reply in between shows that the server works.
        self._last_failure, self._failures, self._same_failures = "", 0, 0

    def record_failure(self, failure: Failure) -> None:
        """Count a prompt that failed for good, and stop where the next ones would fail, too."""
        self.failed += 1
        self._failures += 1
        # Two counts. The same persistent failure a few times in a row (a wrong key, an unknown model) will not cure
        # itself, so few are enough. Failures of any kind in a row may be an outage that ends, so many more are allowed.
        self._same_failures = self._same_failures + 1 if failure.line == self._last_failure else 1
        self._last_failure = failure.line
        if failure.persistent and (not self.reachable or self._same_failures >= MAX_PERSISTENT_FAILURES):
            self.stop(f"{self.target.name} cannot be asked: {failure.line}")
        elif self._failures >= MAX_CONSECUTIVE_FAILURES:
            self.stop(f"{self.target.name} failed {self._failures} times in a row, at last with: {failure.line}")
        elif not failure.persistent:
            # A server that answers at all, be it nonsense, has been reached: name, port and key are right, and the rest
            # may be asked.
            self.reachable = self.reachable or failure.kind == "broken"

    def is_first_verdict(self, key: str) -> bool:
        """Whether a sample's verdict is wanted for the first time: two scorers want it, and it is written once."""
        if key in self._written:
            return False
        self._written.add(key)
        return True

    def stop(self, why: str) -> None:
        """Send nothing more; the first reason is kept."""
        self.fatal = self.fatal or why

    def abort(self, error: BaseException) -> None:
        """Stop because something on this side failed, such as the disk; the error is raised at the end."""
        self.error = self.error or error
        self.stop(str(error))

    def end_sample(self) -> bool:
        """Count a sample that has left inspect's evaluation, with or without a reply.

        Returns:
            Whether it was the last one.
        """
        self._left -= 1
        return self._left == 0

    def count_done(self) -> None:
        """Count a sample that has its reply and verdict, or has failed for good."""
        self._done += 1
        self.report()

    def report(self) -> None:
        """Call the progress sink."""
        if self._progress:
            seconds = time.monotonic() - self._began
            # Shown only where it was lowered: otherwise it repeats what the user has asked for.
            limit = self.in_flight.limit if self.in_flight.limit < self.in_flight.most else None
            self._progress(CollectionProgress(self._done, self._total, self.failed, seconds, self.sent, limit))

    def close(self) -> None:
        """Write the rows that wait, and end the threads."""
        for batches in (self.replies, self.verdicts):
            batches.close()
        self.judging.close()

    @property
    def unaccounted(self) -> int:
        """Samples that are neither done nor left alone on purpose: an error of the evaluation itself ended them."""
        return self._total - self._done - self.not_sent

    @property
    def outcome(self) -> CollectionOutcome:
        """What has been done so far."""
        return CollectionOutcome(self.sent, self.reused, self.failed, self.not_sent, self.judged, self.fatal)


def _writer(ledger: AppendOnlyLog[Any]) -> Callable[[Sequence[Any]], list[None]]:
    def write(rows: Sequence[Any]) -> list[None]:
        ledger.append(rows)
        return [None] * len(rows)

    return write


# inspect creates solvers and scorers by name from its registry, so that they cannot be given the session as an
# argument. A context variable, not a global: two collections may run in one process, each in its own tasks.
current: ContextVar[CollectionSession | None] = ContextVar("equipoise_session", default=None)
"""The collection in which inspect runs our solver and scorers; None where a user runs inspect directly."""
