"""The audits of a frontier divided among workers, each of which loads the mitigated model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from equipoise.audit.engine.provider import BATCH
from equipoise.audit.engine.session import ReportingJudge
from equipoise.audit.workers.audit_task import AuditTask
from equipoise.audit.workers.audit_workers import SHARDS, AuditWorkers
from equipoise.countermeasures.catalogue import defend
from equipoise.execution.executors import Executor, Note
from equipoise.execution.shards import ShardStore
from equipoise.generation.request_gate import request_gate
from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class MitigatedModelLoader:
    """Loads weights in their mitigations; can be pickled."""

    load: Callable[[str], OpenModel]
    """Loads weights by their name; can be pickled."""
    weights: str
    """`MODEL`, or `MODEL+ADAPTER`."""
    specs: tuple[str, ...]
    """Countermeasures, in the order in which a prompt meets them."""

    def __call__(self) -> OpenModel:
        """The mitigated model."""
        return defend(self.load(self.weights), self.specs, harm_gate=request_gate)


@dataclass(frozen=True)
class VariantWorkers:
    """Where the prompts of a frontier are asked and the replies judged."""

    executor: Executor
    """Starts the workers, anew for each variant: they hold other weights and countermeasures."""
    load: Callable[[str], OpenModel]
    """Loads weights by their name; can be pickled."""
    load_judge: Callable[[OpenModel], ReportingJudge]
    """Loads the judge that reports; can be pickled."""
    note: Note
    """Called with a line about each worker that died."""

    @contextmanager
    def open(self, folder: Path, weights: str, specs: Sequence[str], fits: str = "") -> Iterator[AuditWorkers]:
        """Workers for the audits of one variant; they end with the `with`.

        Args:
            folder: of the variant, which keeps what workers did and the run did not take yet.
            weights: `MODEL`, or `MODEL+ADAPTER`.
            specs: countermeasures.
            fits: what the run's revision has behind that of the model.
        """
        store = ShardStore(folder / SHARDS)
        task = AuditTask(MitigatedModelLoader(self.load, weights, tuple(specs)), self.load_judge, revision_ending=fits)
        try:
            with self.executor.open(task, store, self.note) as group:
                yield AuditWorkers(group, store, BATCH)
        finally:
            store.remove_empty()
