"""What runs in a worker: it enters its process, loads the task's state once, and answers items one after the other."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.errors import EquipoiseError
from equipoise.execution.items import Parcel, WorkerTask
from equipoise.execution.shards import ShardStore


@dataclass(frozen=True)
class WorkerReply:
    """What a worker says about one item, or about loading."""

    result: Parcel | None = None
    """The result; None where it lies in the worker's shard, or where there is none."""
    error: EquipoiseError | None = None
    """Why there is none."""
    damage: str | None = None
    """What was wrong with the parcel as it arrived; the item was not begun."""
    is_final: bool = False
    """Whether the error ends the run: nothing can be written, or loading failed."""


@dataclass(frozen=True)
class WorkerLaunch:
    """All that a worker process needs to begin; pickled, and sent to it once."""

    name: str
    """Of the worker and its shard, such as `worker-0`."""
    task: bytes
    """The pickled `WorkerTask`. It is unpickled last, since that may import torch, which reads the variables."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the worker, such as its number of threads and its GPU."""
    paths: tuple[str, ...] = ()
    """The starting process's `sys.path`, so that what it can import can be imported here."""
    store: Path | None = None
    """Folder of the shards; None where results travel back."""
    token: str = ""
    """Of the store (`ShardStore.write_token`)."""

    def begin(self) -> ItemWorker:
        """Enter this process, and unpickle the task."""
        # Before the task is unpickled, which imports torch: threads and GPUs are read from the environment then, and
        # only then.
        os.environ.update(self.variables)
        sys.path.extend(path for path in self.paths if path not in sys.path)
        store = ShardStore(self.store) if self.store else None
        # On a machine without the folder, results travel back, and the starting process writes them.
        reached = store if store is not None and store.is_reached_by(self.token) else None
        return ItemWorker(self.name, pickle.loads(self.task), reached)


class ItemWorker:
    """A task with its loaded state, and the shard that its results go to.

    Args:
        name: of the worker.
        task: what is done.
        store: where results go; None returns them.
    """

    def __init__(self, name: str, task: WorkerTask, store: ShardStore | None = None) -> None:
        self.name = name
        self._task = task
        self._store = store
        self._state: Any = None

    def load(self) -> WorkerReply:
        """Load the task's state."""
        try:
            self._state = self._task.load()
        except EquipoiseError as error:
            return WorkerReply(error=_without_trace(error), is_final=True)
        return WorkerReply()

    def do(self, key: str, parcel: Parcel) -> WorkerReply:
        """Do one item, and keep its result in the shard where there is one."""
        from equipoise.errors import OutputError

        if parcel.damage:
            return WorkerReply(damage=parcel.damage)
        try:
            result = self._task.run(self._state, parcel)
            if self._store is None:
                return WorkerReply(result)
            self._store.write(self.name, key, result)
            return WorkerReply()
        except EquipoiseError as error:
            return WorkerReply(error=_without_trace(error), is_final=isinstance(error, OutputError))


def _without_trace(error: EquipoiseError) -> EquipoiseError:
    # A traceback holds tensors, and cannot be pickled.
    return error.with_traceback(None)
