"""Judging in batches, in this process or on workers: the verdicts come in the order of what is judged.

A judge that only workers load is known here by its description. A reply that ends its workers is unscored with the
reason; the others of its batch are judged one by one.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from equipoise.errors import EquipoiseError, UsageError
from equipoise.execution.dispatch import ItemOutcome, SetAsideError, WorkerGroup
from equipoise.execution.executors import InProcessExecutor
from equipoise.execution.items import Parcel, WorkerTask, WorkItem, content_key
from equipoise.execution.shards import ShardStore
from equipoise.judges.run_judge import identity_of, name_of, run_judge
from equipoise.types import Exchange, Judge, Verdict


@dataclass(frozen=True)
class JudgeTask(WorkerTask):
    """Judges batches: a parcel without parts asks for the judge's description, one with exchanges for verdicts."""

    load_judge: Callable[[], Judge]
    """Loads the judge; can be pickled where workers are processes."""

    def load(self) -> Judge:
        """Load the judge, once for each worker."""
        return self.load_judge()

    def run(self, state: Judge, parcel: Parcel) -> Parcel:
        """Describe the judge, or judge a batch."""
        if parcel.parts:
            items: list[Exchange | Verdict] = pickle.loads(parcel.parts[0])
            judged = iter(run_judge(state, [item for item in items if isinstance(item, Exchange)]))
            verdicts = [item if isinstance(item, Verdict) else next(judged) for item in items]
            document: Any = [verdict.to_json() for verdict in verdicts]
        else:
            describe = getattr(state, "describe", None)
            description = describe() if describe else None
            document = {"name": name_of(state), "identity": identity_of(state), "description": description}
        return Parcel.of(json.dumps(document).encode())


@dataclass(frozen=True)
class JudgingBatch:
    """Replies that are judged together."""

    inputs: tuple[str, ...]
    """A hash or a name of each reply."""
    exchange: Callable[[int], Exchange | Verdict]
    """Makes one of them, by its number in the batch; called when a worker is free. A verdict stands for a reply that no
    judge can be shown."""
    label: str = ""
    """Tells apart batches of equal inputs, such as two without any."""

    def single(self, number: int) -> JudgingBatch:
        """One reply alone."""
        return JudgingBatch((self.inputs[number],), lambda _: self.exchange(number), f"{self.label}.{number}")


@dataclass(frozen=True)
class BatchJudging:
    """A judge with its workers.

    Args:
        group: workers with a `JudgeTask`.
        name: what people call the judge.
        identity: changes whenever its verdicts could.
        description: for a run's recipe; None where the judge has none.
        store: of the workers' shards; None hands verdicts out only.
    """

    group: WorkerGroup
    name: str
    identity: str
    description: dict[str, Any] | None
    store: ShardStore | None = None

    @classmethod
    def of(cls, group: WorkerGroup, store: ShardStore | None = None) -> BatchJudging:
        """Ask the first worker which judge it has loaded.

        Raises:
            EquipoiseError: it cannot be loaded, or has no identity.
        """
        item = WorkItem(content_key("judge-identity", [], {}), "the judge", Parcel.of)
        if store is not None:
            store.discard(item.key)
        (outcome,) = group.map([item])
        if store is not None:
            store.discard(item.key)
        return cls(group, **json.loads(_result(outcome).parts[0]), store=store)

    def verdicts(self, batches: Iterable[JudgingBatch]) -> Iterator[list[Verdict]]:
        """The verdicts of each batch, in the order of the batches.

        A result is removed from its shard when the next one is asked for: the caller has kept it by then.

        Args:
            batches: what is judged; read as workers become free.

        Raises:
            PictureError: a picture cannot be read.
            OutputError: a worker can write nothing any more.
        """
        numbered: dict[str, tuple[int, JudgingBatch]] = {}
        done: dict[int, list[Verdict]] = {}
        broken: dict[int, JudgingBatch] = {}
        following = 0

        def items() -> Iterator[WorkItem]:
            for number, batch in enumerate(batches):
                item = self._item(batch)
                numbered[item.key] = number, batch
                yield item

        keys: dict[int, str] = {}
        for outcome in self.group.map(items()):
            number, batch = numbered.pop(outcome.item.key)
            keys[number] = outcome.item.key
            if isinstance(outcome.error, SetAsideError):
                broken[number] = batch
            else:
                done[number] = _read(_result(outcome))
            while following in done:
                yield done.pop(following)
                self._discard(keys.pop(following))
                following += 1
        for number, batch in sorted(broken.items()):
            done[number] = [self._alone(batch.single(index)) for index in range(len(batch.inputs))]
        for number in sorted(done):
            yield done[number]
            self._discard(keys[number])

    def _alone(self, batch: JudgingBatch) -> Verdict:
        """The verdict of one reply, which may end its workers again."""
        (outcome,) = self.group.map([self._item(batch)])
        if isinstance(outcome.error, SetAsideError):
            return Verdict(None, unscored=f"the judge {self.name} failed: {outcome.error}")
        (verdict,) = _read(_result(outcome))
        self._discard(outcome.item.key)
        return verdict

    def _item(self, batch: JudgingBatch) -> WorkItem:
        key = content_key("judge", batch.inputs, {"judge": self.identity, "label": batch.label})
        first = batch.inputs[0][:24] if batch.inputs else "none"
        more = f" and {len(batch.inputs) - 1} more" if len(batch.inputs) > 1 else ""
        return WorkItem(key, f"reply {first}{more}", partial(_pack, batch))

    def _discard(self, key: str) -> None:
        if self.store is not None:
            self.store.discard(key)


@contextmanager
def judging_here(judge: Judge) -> Iterator[BatchJudging]:
    """A judge of this process, one batch after the other."""
    with InProcessExecutor().open(JudgeTask(lambda: judge)) as group:
        yield BatchJudging.of(group)


def _pack(batch: JudgingBatch) -> Parcel:
    return Parcel.of(pickle.dumps([batch.exchange(number) for number in range(len(batch.inputs))]))


def _read(result: Parcel) -> list[Verdict]:
    rows: Sequence[dict[str, Any]] = json.loads(result.parts[0])
    return [Verdict.from_json(row) for row in rows]


def _result(outcome: ItemOutcome) -> Parcel:
    if outcome.result is None:
        error: EquipoiseError = outcome.error or UsageError("expected verdicts, got none; try again")
        raise error
    return outcome.result
