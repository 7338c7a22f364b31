"""Workers as actors of Ray, on this machine or on a cluster (extra `ray`, imported only here)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from equipoise.errors import MissingExtraError, ModelError, UsageError
from equipoise.execution.backend import WorkerBackend, WorkerDeath, WorkerEvent
from equipoise.execution.items import Parcel
from equipoise.execution.worker import ItemWorker, WorkerLaunch, WorkerReply

AUTO: Final = "auto"
"""In place of an address: the cluster that runs here, or one that is started on this machine for the run."""


def import_ray() -> Any:
    """The module `ray`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise MissingExtraError(
            "expected the extra 'ray' for --ray, got an installation without ray; try pip install 'equipoise[ray]'"
        ) from None
    return ray


class RayWorker:
    """The actor: an `ItemWorker` in a process of Ray."""

    def __init__(self, launch: WorkerLaunch) -> None:
        self._launch = launch
        self._worker: ItemWorker | None = None

    def load(self) -> WorkerReply:
        """Enter the process and load the task's state."""
        self._worker = self._launch.begin()
        return self._worker.load()

    def do(self, key: str, parcel: Parcel) -> WorkerReply:
        """Do one item."""
        assert self._worker is not None
        return self._worker.do(key, parcel)

    def process_id(self) -> int:
        """Of the actor's process."""
        return os.getpid()


class RayCluster:
    """A connection to Ray, which is closed if this opened it.

    Args:
        address: `auto`, or that of a cluster (`ray://HOST:10001`, `HOST:6379`).
        cpus: cores of a cluster that is started here.
    """

    def __init__(self, address: str, cpus: int) -> None:
        self.ray = import_ray()
        self.is_local = False
        self._opened = not self.ray.is_initialized()
        if not self._opened:
            return
        # Workers write to the driver's terminal by default, over the progress display.
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            self.ray.init(address=address, **quiet)
        except ConnectionError as error:
            if address != AUTO:
                raise UsageError(
                    f"expected a cluster of Ray at {address}, got '{_brief(error)}'; try --ray auto"
                ) from None
            # Left to itself, Ray starts a process for every core it sees, which on large machines takes minutes.
            self.ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            self.is_local = True
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(f"expected a cluster of Ray at {address}, got '{_brief(error)}'; try --ray auto") from None

    def most_workers(self, cpus: float, gpus: float) -> int:
        """How many actors of this size the cluster holds."""
        resources = self.ray.cluster_resources()
        limits = [resources.get("CPU", 0.0) / cpus] if cpus else []
        limits += [resources.get("GPU", 0.0) / gpus] if gpus else []
        return int(min(limits)) if limits else 0

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._opened:
            self.ray.shutdown()


class RayBackend(WorkerBackend):
    """Actors. One that dies is replaced by a new one, placed by Ray; what it was doing is tried again by the group.

    Ray's own retries are off: they would hide which item ended an actor.

    Args:
        cluster: where actors run; closed with this.
        launches: what each worker begins with.
        cpus: cores that Ray reserves for an actor.
        gpus: GPUs that it reserves; a fraction lets several actors share one.

    Raises:
        UsageError: the cluster is too small: Ray would wait for ever.
    """

    def __init__(self, cluster: RayCluster, launches: Sequence[WorkerLaunch], *, cpus: float, gpus: float) -> None:
        self._cluster = cluster
        self._ray = cluster.ray
        self._launches = {launch.name: launch for launch in launches}
        most = cluster.most_workers(cpus, gpus)
        if most < len(launches):
            cluster.close()
            raise UsageError(
                f"expected at most {most} workers of {cpus:g} cores and {gpus:g} GPUs on this cluster, got "
                f"{len(launches)}; try --workers {max(most, 1)}, or a smaller --gpus-per-worker"
            )
        self._actor = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(RayWorker)
        self._actors: dict[str, Any] = {}
        self._pending: dict[Any, str] = {}

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers."""
        return tuple(self._launches)

    def process_id(self, worker: str) -> int:
        """The id of an actor's process, on its machine."""
        return int(self._ray.get(self._actors[worker].process_id.remote()))

    def start(self, worker: str) -> None:
        """Make an actor, which loads."""
        self._actors[worker] = self._actor.remote(self._launches[worker])
        self._pending[self._actors[worker].load.remote()] = worker

    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        """Send an item; Ray puts its bytes into the object store of the actor's machine."""
        self._pending[self._actors[worker].do.remote(key, parcel)] = worker

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Replies, and actors that died with Ray's reason."""
        pending = list(self._pending)
        ready, _ = self._ray.wait(pending, num_returns=1, timeout=seconds)
        if ready:
            # All that is ready by now, without waiting: one call for many replies.
            ready, _ = self._ray.wait(pending, num_returns=len(pending), timeout=0)
        return [(self._pending.pop(reference), self._read(reference)) for reference in ready]

    def stop(self, worker: str) -> None:
        """Kill an actor; its unfinished reply is forgotten."""
        self._pending = {reference: name for reference, name in self._pending.items() if name != worker}
        self._ray.kill(self._actors.pop(worker), no_restart=True)

    def close(self) -> None:
        """Kill all actors, and leave the cluster."""
        for actor in self._actors.values():
            # The connection may be what broke.
            with suppress(Exception):
                self._ray.kill(actor, no_restart=True)
        self._actors, self._pending = {}, {}
        self._cluster.close()

    def _read(self, reference: Any) -> WorkerReply | WorkerDeath:
        exceptions = self._ray.exceptions
        try:
            reply: WorkerReply = self._ray.get(reference)
            return reply
        except exceptions.ActorUnschedulableError as error:
            raise ModelError(f"expected room for a worker, got '{_brief(error)}'; try fewer --workers") from None
        except (
            exceptions.RayActorError,
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
            exceptions.NodeDiedError,
        ) as error:
            return WorkerDeath(_death(error))


def _death(error: Exception) -> str:
    """Ray's reason in a few words: its messages are paragraphs."""
    text = " ".join(str(error).split())
    if "OutOfMemory" in type(error).__name__ or "memory pressure" in text or "low on memory" in text:
        return "out of memory"
    if "node" in text.lower() and "died" in text and "worker process has died" not in text:
        return "its machine is gone"
    return "its process died"


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
