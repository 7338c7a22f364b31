"""The executors: in this process, in processes of this machine, on Ray; one small interface."""

from __future__ import annotations

import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from equipoise.errors import UsageError
from equipoise.execution.backend import InProcessBackend
from equipoise.execution.dispatch import DispatchLimits, WorkerGroup
from equipoise.execution.items import WorkerTask
from equipoise.execution.shards import ShardStore
from equipoise.execution.spawn import SpawnBackend
from equipoise.execution.worker import WorkerLaunch

THREADS: Final = "OMP_NUM_THREADS"
GPUS: Final = "CUDA_VISIBLE_DEVICES"
Note = Callable[[str], None]
LONGEST_ITEM: Final = 1_000_000.0
"""Seconds that an item may take at most; operating systems wait no longer than 24 days at once."""


def _ignore(_: str) -> None:
    """Where the caller reads no notes."""


@dataclass(frozen=True)
class Executor(ABC):
    """Where work runs."""

    limits: DispatchLimits = field(default_factory=DispatchLimits, kw_only=True)
    """When an item is given up."""

    @abstractmethod
    def open(self, task: WorkerTask, store: ShardStore | None = None, note: Note = _ignore) -> WorkerGroup:
        """Workers for a task; use them in a `with`.

        Args:
            task: what they do.
            store: where results are kept; None hands them out only.
            note: called with a line about each worker that died.

        Raises:
            UsageError: there is no room for so many workers, or no cluster at the address.
            MissingExtraError: Ray is not installed.
        """

    @property
    @abstractmethod
    def description(self) -> str:
        """Where work runs, in words."""


@dataclass(frozen=True)
class InProcessExecutor(Executor):
    """This process, one item after the other. The time limit of an item does not apply."""

    def open(self, task: WorkerTask, store: ShardStore | None = None, note: Note = _ignore) -> WorkerGroup:
        """One worker, which is this process."""
        return WorkerGroup(InProcessBackend(task, store), store, self.limits, note)

    @property
    def description(self) -> str:
        """Where work runs, in words."""
        return "this process"


@dataclass(frozen=True)
class SpawnExecutor(Executor):
    """Processes of this machine, each with a share of the cores and, in turn, one of the GPUs."""

    workers: int
    """How many."""
    gpus: tuple[str, ...] = ()
    """GPUs that workers take in turn, as in `CUDA_VISIBLE_DEVICES`; none leaves the choice to the task."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"expected at least one worker, got {self.workers}; try --workers 2")

    def open(self, task: WorkerTask, store: ShardStore | None = None, note: Note = _ignore) -> WorkerGroup:
        """Processes, which start with the first items."""
        # Set before the process imports torch: afterwards CUDA has read the variable and a change has no effect. With
        # more workers than GPUs several share one, in turn.
        gpus = [{GPUS: self.gpus[number % len(self.gpus)]} if self.gpus else {} for number in range(self.workers)]
        threads = thread_variables(self.workers)
        launches = _launches(task, [{**threads, **gpu} for gpu in gpus], store)
        return WorkerGroup(SpawnBackend(launches), store, self.limits, note)

    @property
    def description(self) -> str:
        """Where work runs, in words."""
        return f"{self.workers} processes"


@dataclass(frozen=True)
class RayExecutor(Executor):
    """Actors of Ray."""

    workers: int
    """How many."""
    address: str = "auto"
    """`auto` for the cluster that runs here or a new one on this machine, or the address of a cluster."""
    cpus: float = 1.0
    """Cores that Ray reserves for a worker."""
    gpus: float = 0.0
    """GPUs that Ray reserves for a worker; .5 lets two workers share one."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"expected at least one worker, got {self.workers}; try --workers 2")

    def open(self, task: WorkerTask, store: ShardStore | None = None, note: Note = _ignore) -> WorkerGroup:
        """Actors, which start with the first items."""
        from equipoise.execution.ray_actors import RayBackend, RayCluster

        # Workers are counted in cores here: a stand-in for a GPU step needs none, and a machine may have few.
        cluster = RayCluster(self.address, max(available_cores(), round(self.workers * self.cpus)))
        variables = thread_variables(self.workers) if cluster.is_local else {THREADS: str(max(1, round(self.cpus)))}
        # Ray's own pickling takes a class of the main program by its text; its workers run another main program.
        launches = _launches(task, [variables] * self.workers, store, cluster.ray.cloudpickle.dumps)
        return WorkerGroup(RayBackend(cluster, launches, cpus=self.cpus, gpus=self.gpus), store, self.limits, note)

    @property
    def description(self) -> str:
        """Where work runs, in words."""
        return f"{self.workers} workers of Ray ({self.address})"


def choose_executor(
    workers: int | None,
    ray: str | None = None,
    *,
    gpus_per_worker: float = 0.0,
    cpus_per_worker: float = 1.0,
    item_seconds: float | None = None,
) -> Executor | None:
    """The executor that the options of a command mean; None means none was asked for.

    Args:
        workers: how many; with Ray, None is one for each core.
        ray: `auto` or an address; None is processes of this machine.
        gpus_per_worker: GPUs that Ray reserves for a worker.
        cpus_per_worker: cores that Ray reserves for a worker.
        item_seconds: seconds after which an item counts as hung.

    Raises:
        UsageError: values that cannot be, or options of workers without workers.
    """
    if item_seconds is not None and not 0 < item_seconds <= LONGEST_ITEM:
        raise UsageError(
            f"expected a time limit above 0 and up to {LONGEST_ITEM:,.0f} seconds, got {item_seconds:g}; "
            "try --item-seconds 600"
        )
    limits = DispatchLimits(item_seconds)
    if ray is not None:
        from equipoise.execution.ray_actors import import_ray

        import_ray()
        count = available_cores() if workers is None else workers
        return RayExecutor(count, ray, cpus_per_worker, gpus_per_worker, limits=limits)
    if gpus_per_worker:
        raise UsageError("expected --gpus-per-worker with --ray, got it without; try --ray auto")
    if workers is None:
        if item_seconds is not None:
            raise UsageError("expected --item-seconds with --workers or --ray, got it alone; try --workers 1")
        return None
    return SpawnExecutor(workers, visible_gpus(), limits=limits)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_variables(workers: int) -> Mapping[str, str]:
    """The number of threads of each worker: its share of the cores, unless the user has set a number.

    Sums over another number of threads may round differently. So the bytes are those of one process with this number
    of threads; results from GPUs do not depend on it.
    """
    return {THREADS: os.environ.get(THREADS) or str(max(1, available_cores() // workers))}


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them; none without torch or a GPU."""
    chosen = os.environ.get(GPUS)
    if chosen is not None:
        return tuple(name for name in chosen.split(",") if name.strip())
    try:
        import torch
    except ModuleNotFoundError:
        return ()
    # Counts by the driver's library, without a context that would hold memory of a GPU in this process.
    return tuple(str(number) for number in range(torch.cuda.device_count()))


def _launches(
    task: WorkerTask,
    variables: list[Mapping[str, str]],
    store: ShardStore | None,
    dumps: Callable[[object], bytes] = pickle.dumps,
) -> list[WorkerLaunch]:
    """What workers begin with: the same task for all, with each one's name and variables."""
    content = dumps(task)
    folder = store.folder.resolve() if store else None
    token = store.write_token() if store else ""
    return [
        WorkerLaunch(f"worker-{number}", content, own, tuple(sys.path), folder, token)
        for number, own in enumerate(variables)
    ]
