"""A thousand workers that fail, in simulated time, and a few real ones that are killed: nothing is lost or doubled.

    python benchmarks/worker_failures.py                  # the simulation (extra `bench`)
    python benchmarks/worker_failures.py --kills 20 --drivers 5 --write     # real processes; the page

The simulation runs the package's own dispatch (`execution.dispatch.WorkerGroup`) over workers of SimPy: a worker's
picture takes a lognormal time around the measured median of docs/performance.md, workers die at random, some bytes
arrive damaged, some pictures end every worker, some hang. Failures are far more frequent than on real machines.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from equipoise.execution import DispatchLimits, Parcel, ShardStore, SpawnExecutor, WorkerGroup, WorkerTask, WorkItem
from equipoise.execution.backend import WorkerBackend, WorkerDeath, WorkerEvent
from equipoise.execution.items import content_key
from equipoise.execution.worker import WorkerReply
from killed_processes import WorkerKiller, kill_driver, losses
from page import put

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "worker_failures.json"
PAGE = ROOT / "docs" / "scale.md"


@dataclass(frozen=True)
class FailureModel:
    """How long things take and how often they fail."""

    median_seconds: float = 5.9
    """Of a picture: measured on `testbed/llava` (docs/performance.md, time to refusal)."""
    spread: float = 0.5
    """Standard deviation of the logarithm of a picture's seconds: an assumption."""
    load_seconds: float = 30.0
    """Of loading models."""
    mean_life: float = 600.0
    """Seconds until a worker dies, exponential."""
    damaged: float = 0.005
    """Share of parcels that arrive damaged."""
    poison: float = 0.001
    """Share of pictures that end every worker."""
    hung: float = 0.001
    """Share of pictures that hang on every worker."""
    limit: float = 120.0
    """Seconds after which a worker's picture counts as hung."""


class SimulatedBackend(WorkerBackend):
    """Workers of SimPy; `wait` lets simulated time pass until one says something."""

    def __init__(self, workers: int, model: FailureModel, seed: int) -> None:
        import simpy

        self._env = simpy.Environment()
        self._simpy = simpy
        self._names = tuple(f"worker-{number}" for number in range(workers))
        self._model, self._chance = model, random.Random(seed)
        self._events: list[WorkerEvent] = []
        self._happened = self._env.event()
        self._processes: dict[str, Any] = {}
        self._dies_at: dict[str, float] = {}
        self.busy_seconds = 0.0
        self.deaths = 0

    @property
    def names(self) -> Sequence[str]:
        """Names of the workers."""
        return self._names

    def start(self, worker: str) -> None:
        """Load for a while."""
        self._dies_at[worker] = self.now() + self._chance.expovariate(1 / self._model.mean_life)
        self._processes[worker] = self._env.process(self._do(worker, self._model.load_seconds, WorkerReply()))

    def submit(self, worker: str, key: str, parcel: Parcel) -> None:
        """Work for a while."""
        kind = parcel.parts[1]
        seconds = self._chance.lognormvariate(math.log(self._model.median_seconds), self._model.spread)
        event: WorkerReply | WorkerDeath | None = WorkerReply(Parcel.of(parcel.parts[0][::-1]))
        if self._chance.random() < self._model.damaged:
            seconds, event = 0.01, WorkerReply(damage="other bytes arrived than were sent")
        elif kind == b"poison":
            event = WorkerDeath("killed by signal 9")
        elif kind == b"hung":
            seconds, event = math.inf, None
        self._processes[worker] = self._env.process(self._do(worker, seconds, event))

    def wait(self, seconds: float | None) -> list[WorkerEvent]:
        """Let time pass until a worker says something."""
        if not self._events:
            self._happened = self._env.event()
            until = [self._happened] if seconds is None else [self._happened, self._env.timeout(seconds)]
            self._env.run(until=self._simpy.AnyOf(self._env, until))
        events, self._events = self._events, []
        return events

    def stop(self, worker: str) -> None:
        """End a worker."""
        process = self._processes.pop(worker)
        if process.is_alive:
            process.interrupt()
        self._events = [event for event in self._events if event[0] != worker]

    def close(self) -> None:
        """Forget the workers."""
        self._processes = {}

    def now(self) -> float:
        """Simulated seconds."""
        return float(self._env.now)

    def _do(self, worker: str, seconds: float, event: WorkerReply | WorkerDeath | None) -> Any:
        left = self._dies_at[worker] - self.now()
        try:
            yield self._env.timeout(max(0.0, min(seconds, left)))
        except self._simpy.Interrupt:
            return
        if seconds > left:
            event = WorkerDeath("its machine is gone")
        if isinstance(event, WorkerDeath):
            self.deaths += 1
        else:
            self.busy_seconds += seconds
        assert event is not None
        self._events.append((worker, event))
        if not self._happened.triggered:
            self._happened.succeed()


def simulate(workers: int, count: int, deaths: int, model: FailureModel, seed: int = 0) -> dict[str, Any]:
    """Counts of one simulated run; raises where a picture is lost, doubled or has another result."""
    chance = random.Random(seed)
    kinds = chance.choices(
        (b"poison", b"hung", b"good"), (model.poison, model.hung, 1 - model.poison - model.hung), k=count
    )
    items = [
        WorkItem(content_key("simulated", [str(n)], {}), str(n), lambda n=n: Parcel.of(str(n).encode(), kinds[n]))
        for n in range(count)
    ]
    backend = SimulatedBackend(workers, model, seed)
    outcomes: Counter[str] = Counter()
    aside: list[int] = []
    with WorkerGroup(backend, limits=DispatchLimits(model.limit, deaths)) as group:
        for outcome in group.map(items):
            outcomes[outcome.item.name] += 1
            if outcome.result is None:
                aside.append(int(outcome.item.name))
            elif outcome.result.parts[0] != outcome.item.name.encode()[::-1]:
                raise AssertionError(f"another result of {outcome.item.name}")
        seconds = backend.now()
    mean = model.median_seconds * math.exp(model.spread**2 / 2)
    lost, doubled = count - len(outcomes), sum(number > 1 for number in outcomes.values())
    assert lost == doubled == 0
    bad = {number for number, kind in enumerate(kinds) if kind != b"good"}
    assert bad <= set(aside), "a picture that ends every worker has no result"
    return {
        "workers": workers,
        "pictures": count,
        "deaths_allowed": deaths,
        "hours": seconds / 3600,
        "worker_deaths": backend.deaths,
        "lost": lost,
        "doubled": doubled,
        "bad": len(bad),
        "set_aside": len(aside),
        "wrongly_set_aside": len(set(aside) - bad),
        "useful_share": (count - len(aside)) * mean / (workers * seconds),
    }


@dataclass(frozen=True)
class SlowEcho(WorkerTask):
    """Turns a text round after a moment."""

    def load(self) -> None:
        """Load nothing."""

    def run(self, state: None, parcel: Parcel) -> Parcel:
        """Do one item."""
        time.sleep(0.05)
        return Parcel.of(parcel.parts[0][::-1])


def echo_items(count: int) -> list[WorkItem]:
    """Items of a text."""
    return [
        WorkItem(content_key("killed", [str(n)], {}), str(n), lambda n=n: Parcel.of(str(n).encode()))
        for n in range(count)
    ]


def lost_and_doubled(store: ShardStore, count: int) -> dict[str, int]:
    """How many items have no result in the shards, and how many have two.

    Raises:
        RuntimeError: a result of no item.
    """
    return losses(map(str, range(count)), (parcel.parts[0][::-1].decode() for _, parcel in store.results()))


def kill_workers(kills: int) -> dict[str, Any]:
    """Kill real processes at random moments of a run."""
    killer, lines, count = WorkerKiller(kills, seed=1), list[str](), 8 * kills
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(Path(folder) / "shards")
        with SpawnExecutor(2).open(SlowEcho(), store, lines.append) as group:
            outcomes = []
            for outcome in group.map(echo_items(count)):
                outcomes.append(outcome)
                killer(group)
        counts = lost_and_doubled(store, count)
    assert len(outcomes) == count
    assert all(outcome.result for outcome in outcomes)
    return {"kills": killer.killed, "items": count, **counts, "lines": len(lines)}


def kill_drivers(kills: int) -> dict[str, Any]:
    """Kill the process that hands out items; the same command goes on."""
    count = 40
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        result = kill_driver(
            __file__, folder, kills, lambda number: 1 + 5 * number, lambda: len(ShardStore(shards).keys())
        )
        counts = lost_and_doubled(ShardStore(shards), count)
    return {"items": count, **counts, **result}


def drive(folder: str) -> None:
    """The driver that is killed."""
    store = ShardStore(Path(folder) / "shards")
    with SpawnExecutor(2).open(SlowEcho(), store) as group:
        for outcome in group.map(echo_items(40)):
            print(outcome.item.name, flush=True)


def table(document: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    lines = [
        f"`{document['command']}`; a picture {document['model']['median_seconds']} s in the median, a worker lives "
        f"{document['model']['mean_life']:g} s in the mean and loads for {document['model']['load_seconds']:g} s",
        "",
        "| workers | pictures | deaths allowed | simulated hours | workers that died | lost | doubled | pictures that "
        "end or hang every worker | set aside | set aside by bad luck | share of worker time that is useful |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document.get("simulated", ()):
        lines.append(
            f"| {row['workers']} | {row['pictures']} | {row['deaths_allowed']} | {row['hours']:.2f} | "
            f"{row['worker_deaths']} | {row['lost']} | {row['doubled']} | {row['bad']} | {row['set_aside']} | "
            f"{row['wrongly_set_aside']} | {row['useful_share']:.2f} |"
        )
    if "killed_workers" in document:
        row = document["killed_workers"]
        lines += [
            "",
            f"Real processes: {row['kills']} workers killed (`kill -9`) over {row['items']} items, {row['lost']} lost, "
            f"{row['doubled']} doubled, {row['lines']} lines about it.",
        ]
    if "killed_drivers" in document:
        row = document["killed_drivers"]
        kept = ", ".join(map(str, row["kept_after_each"]))
        lines += [
            f"The driver killed {row['kills']} times over {row['items']} items (results kept after each: {kept}); the "
            f"same command then ended with {row['lost']} lost and {row['doubled']} doubled.",
        ]
    return lines


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0, help="real workers to kill")
    parser.add_argument("--drivers", type=int, default=0, help="real drivers to kill")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="the table into docs/scale.md")
    options = parser.parse_args()
    if options.drive:
        drive(options.drive)
        return
    model = FailureModel()
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    document |= {
        "command": "python benchmarks/worker_failures.py --kills 20 --drivers 5 --write",
        "model": asdict(model),
    }
    if options.kills:
        document["killed_workers"] = kill_workers(options.kills)
    if options.drivers:
        document["killed_drivers"] = kill_drivers(options.drivers)
    if not (options.kills or options.drivers):
        document["simulated"] = [simulate(options.workers, options.pictures, deaths, model) for deaths in (2, 3)]
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))
    if options.write:
        put(PAGE, "failures", table(document))


if __name__ == "__main__":
    main()
