"""`AuditWorkers`: the prompts of an audit divided among workers; the same rows in the same run folder, in any order.

A work item is a batch of prompts. Batches are cut from the list of prompts, so that their members depend neither on the
number of workers nor on what an earlier run has done, and a worker writes the rows of a batch whole into its shard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.collect import unfinished_keys
from equipoise.audit.engine.provider import BATCH
from equipoise.audit.engine.session import (
    MAX_CONSECUTIVE_FAILURES,
    MAX_PERSISTENT_FAILURES,
    CollectionOutcome,
    CollectionProgress,
    EvaluationTarget,
    ModelOnWorkers,
    ProgressSink,
)
from equipoise.audit.records import ReplyRow, SampleRow, VerdictRow
from equipoise.audit.workers.audit_task import AuditOrder, AuditPrompt, pack_order
from equipoise.errors import EquipoiseError, ModelError
from equipoise.execution.dispatch import ItemOutcome, WorkerGroup
from equipoise.execution.items import Parcel, WorkItem, content_key
from equipoise.execution.shards import ShardStore
from equipoise.types import Sample, Verdict

SHARDS: Final = ".shards"
"""Folder of the shards, in the run folder; gone when no result is left in it."""
AskedRow = tuple[SampleRow, Sample]
"""A row of the run folder with its sample, which has the pictures."""


@dataclass(frozen=True)
class JudgeOnWorkers:
    """What this process knows of a judge that only its workers have loaded."""

    description: Mapping[str, Any]
    """Name, identity and members."""

    @property
    def identity(self) -> str:
        """Changes whenever its verdicts could."""
        return str(self.description["identity"])

    def describe(self) -> dict[str, Any]:
        """Name, identity and members."""
        return dict(self.description)


@dataclass(frozen=True)
class LoadedOnWorkers:
    """What the workers of an audit have loaded."""

    model: ModelOnWorkers
    """The model without countermeasures."""
    defended: ModelOnWorkers | None
    """The model in its countermeasures; None without any."""
    judge: JudgeOnWorkers
    """Whose verdicts make the numbers."""


@dataclass(frozen=True)
class CollectionRequest:
    """One variant of an audit, for workers."""

    rows: Sequence[AskedRow]
    """What to send, each row with its sample."""
    target: EvaluationTarget
    """Who is asked: name and revision."""
    defended: bool
    """Whether the model in its countermeasures is asked."""
    replies: AppendOnlyLog[ReplyRow]
    """Store of replies; read first, appended to with each batch."""
    verdicts: AppendOnlyLog[VerdictRow]
    """Store of verdicts; read first, appended to with each batch."""
    judge: str
    """Identity of the judge."""
    max_new_tokens: int
    """Length of a reply at most."""
    retries: int
    """How often a prompt is asked again whose error another try may cure."""
    progress: ProgressSink
    """Called after each batch, over all workers."""


@dataclass(frozen=True)
class AuditWorkers:
    """The workers of an audit.

    Args:
        group: workers with an `AuditTask`.
        store: of their shards.
        batch: prompts in an item.
    """

    group: WorkerGroup
    store: ShardStore
    batch: int = BATCH

    def describe(self) -> LoadedOnWorkers:
        """What the first worker has loaded; this process loads nothing.

        Raises:
            EquipoiseError: model or judge cannot be loaded.
        """
        item = WorkItem(content_key("audit-models", [], {}), "the model", Parcel.of)
        # Never that of an earlier run: the weights under a name may be other ones by now.
        self.store.discard(item.key)
        (outcome,) = self.group.map([item])
        self.store.discard(item.key)
        if outcome.result is None:
            raise outcome.error or ModelError("expected a description of the model, got none; try again")
        document = json.loads(outcome.result.parts[0])
        models = [ModelOnWorkers(**values) for values in document["models"]]
        return LoadedOnWorkers(models[0], models[1] if len(models) > 1 else None, JudgeOnWorkers(document["judge"]))

    def collect(self, request: CollectionRequest) -> CollectionOutcome:
        """Send the prompts that have no reply yet, and judge the replies that have no verdict yet.

        A batch whose prompts cost two workers, or that cannot be sent, is asked again prompt by prompt; a prompt that
        does so alone is a permanent failure, and the others are not.

        Raises:
            OutputError: the disk is full; what was written before is whole, and what workers did lies in their shards.
            ModelError: no worker can load.
        """
        collection = _BatchCollection(self, request)
        waiting = {batch[0][0].key: batch for batch in collection.batches(self.batch) if batch}
        while waiting and collection.fatal is None:
            broken: list[AskedRow] = []
            in_a_row = 0
            for rows, outcome in collection.outcomes(list(waiting.values())):
                del waiting[rows[0][0].key]
                if outcome.result is not None or len(rows) == 1:
                    collection.keep(rows, outcome)
                    in_a_row = 0
                    continue
                broken += rows
                in_a_row += 1
                if in_a_row == MAX_PERSISTENT_FAILURES:
                    # Perhaps nothing works any more: a few prompts alone show it sooner than all batches would.
                    break
            for rows, outcome in collection.outcomes([[row] for row in broken]):
                collection.keep(rows, outcome)
        return collection.outcome


@dataclass
class _BatchCollection:
    """One collection over workers: its stores, its counts, and the rule by which it stops early."""

    workers: AuditWorkers
    request: CollectionRequest
    sent: int = 0
    failed: int = 0
    judged: int = 0
    fatal: str | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        request = self.request
        self._earlier = {row.key: row for row in request.replies.rows()}
        self._sendable = [(row, sample) for row, sample in request.rows if row.sample.problem is None]
        rows = [row for row, _ in self._sendable]
        self._unfinished = unfinished_keys(rows, self._earlier, request.verdicts, request.judge)
        self._left = len(self._unfinished)
        self._failures = 0
        self._report()

    def batches(self, size: int) -> Iterator[list[AskedRow]]:
        """The prompts in batches, each without those that are finished."""
        for start in range(0, len(self._sendable), size):
            batch = self._sendable[start : start + size]
            yield [(row, sample) for row, sample in batch if row.key in self._unfinished]

    def outcomes(self, batches: Sequence[list[AskedRow]]) -> Iterator[tuple[list[AskedRow], ItemOutcome]]:
        """What came of each batch, in any order, until the collection stops early."""
        items = [self._item(batch) for batch in batches]
        of_key = {item.key: batch for item, batch in zip(items, batches, strict=True)}
        for outcome in self.workers.group.map(items) if self.fatal is None else ():
            yield of_key[outcome.item.key], outcome
            if self.fatal is not None:
                return

    def keep(self, rows: Sequence[AskedRow], outcome: ItemOutcome) -> None:
        """Append the rows of a batch to the run folder, then remove them from the shard.

        Raises:
            OutputError: the folder cannot be written; the result stays in its shard for the next run.
        """
        request = self.request
        replies, verdicts = (
            self._rows_of_error(rows, outcome.error) if outcome.result is None else _rows_of(outcome.result)
        )
        request.replies.append(replies)
        request.verdicts.append(verdicts)
        self.workers.store.discard(outcome.item.key)
        failures = [reply for reply in replies if reply.error is not None]
        self.sent += len(replies) - len(failures)
        self.failed += len(failures)
        self.judged += len(verdicts)
        self._left -= len(rows)
        # As in one process: when nothing comes back any more, the next prompts would fail, too.
        self._failures = self._failures + len(failures) if len(failures) == len(rows) else 0
        if self._failures >= MAX_CONSECUTIVE_FAILURES and self._left:
            name, why = request.target.name, failures[-1].error
            self.fatal = f"{name} failed {self._failures} times in a row, at last with: {why}"
        self._report()

    @property
    def outcome(self) -> CollectionOutcome:
        """What has been done."""
        reused = len(self._sendable) - len(self._unfinished)
        return CollectionOutcome(self.sent, reused, self.failed, self._left, self.judged, self.fatal)

    def _report(self) -> None:
        total = len(self._sendable)
        seconds = time.monotonic() - self.began
        self.request.progress(CollectionProgress(total - self._left, total, self.failed, seconds, self.sent))

    def _item(self, batch: Sequence[AskedRow]) -> WorkItem:
        request = self.request
        prompts = tuple(self._prompt(row, sample) for row, sample in batch)
        target = request.target
        order = AuditOrder(
            prompts, target.name, target.revision, request.defended, request.max_new_tokens, request.retries
        )
        # A row's key is already a hash over model, variant, sample and settings.
        key = content_key("audit", [row.key for row, _ in batch], {"judge": request.judge})
        first = batch[0][0].sample
        more = f" and {len(batch) - 1} more" if len(batch) > 1 else ""
        return WorkItem(key, f"{first.suite} {first.id}{more}", partial(pack_order, order))

    def _rows_of_error(
        self, rows: Sequence[AskedRow], error: EquipoiseError | None
    ) -> tuple[list[ReplyRow], list[VerdictRow]]:
        """The rows of prompts that no worker could do: permanent failures, with the reason.

        A reply that was there before stays; what failed is its judge.
        """
        why = " ".join(str(error or "no worker could do it").split())
        replies, verdicts = list[ReplyRow](), list[VerdictRow]()
        for row, sample in rows:
            if self._prompt(row, sample).reply is None:
                who = self.request.target.who
                replies.append(ReplyRow(row.key, "", "error", "text", who, error=why, permanent=True))
            else:
                verdict = Verdict(None, unscored=f"the judge failed: {why}")
                verdicts.append(VerdictRow(row.key, self.request.judge, verdict))
        return replies, verdicts

    def _prompt(self, row: SampleRow, sample: Sample) -> AuditPrompt:
        reply = self._earlier.get(row.key)
        return AuditPrompt(row.key, sample, reply if reply is not None and reply.error is None else None)


def _rows_of(result: Parcel) -> tuple[list[ReplyRow], list[VerdictRow]]:
    """The rows in a worker's result."""
    rows = json.loads(result.parts[0])
    replies = [ReplyRow.from_json(row["reply"]) for row in rows if row["reply"] is not None]
    verdicts = [VerdictRow.from_json(_tuples(row["verdict"])) for row in rows if row["verdict"] is not None]
    return replies, verdicts


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
