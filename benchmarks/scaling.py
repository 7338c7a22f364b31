"""Throughput of one, two and four workers, over processes and Ray: a stand-in for a GPU step, and a real small step.

    python benchmarks/scaling.py                  # processes, and Ray where it is installed
    python benchmarks/scaling.py --only spawn --real --no-stand-in --write

The stand-in sleeps, as a worker does whose GPU computes: it needs no core, so two cores suffice for four workers. The
real step is one of the refusal perturbation on `testbed/llava`; on two cores it does not scale beyond two workers.
Results go to benchmarks/results/scaling.json, and with --write into docs/scale.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from equipoise.execution import Executor, Parcel, RayExecutor, SpawnExecutor, WorkerGroup, WorkerTask, WorkItem
from equipoise.execution.items import content_key
from page import put

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scaling.json"
PAGE = ROOT / "docs" / "scale.md"
COUNTS = (1, 2, 4)


@dataclass(frozen=True)
class SleepTask(WorkerTask):
    """The stand-in: so many seconds without a core, as often as the item says."""

    def load(self) -> None:
        """Load nothing."""

    def run(self, state: None, parcel: Parcel) -> Parcel:
        """Do one item."""
        time.sleep(float(parcel.parts[0]))
        return Parcel.of(parcel.parts[1])


@dataclass(frozen=True)
class StepTask(WorkerTask):
    """The real step: loss and gradient of ten questions at the pixels of one picture, on `testbed/llava`."""

    def load(self) -> Any:
        """Load the model."""
        from equipoise.models.load import load

        return load("testbed/llava", device="cpu")

    def run(self, state: Any, parcel: Parcel) -> Parcel:
        """Do one item."""
        import torch

        from equipoise.data.questions import general
        from equipoise.types import Prompt

        questions = general()[:10]
        pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(int(parcel.parts[1])))
        prompts = [Prompt.ask(question) for question in questions]
        loss, _ = state.loss_and_grad(pixels, prompts, ["I can't help with that."] * len(prompts))
        return Parcel.of(f"{float(loss.sum()):.6f}".encode())


@dataclass(frozen=True)
class ScalingRow:
    """One measurement."""

    executor: str
    work: str
    workers: int
    items: int
    seconds: float
    efficiency: float
    """Items a second and worker, over those of one worker."""
    overhead_ms: float | None
    """Milliseconds of a worker for each item beyond the sleep; None where the work is real."""


def work_items(count: int, sleep: float, size: int, label: str) -> list[WorkItem]:
    """Items of the stand-in or of the real step."""
    return [
        WorkItem(
            content_key("scaling", [label, str(number)], {}),
            str(number),
            lambda number=number: Parcel.of(str(sleep).encode(), str(number).encode(), b"\0" * size),
        )
        for number in range(count)
    ]


def seconds_of(group: WorkerGroup, count: int, sleep: float, size: int) -> float:
    """Seconds that loaded workers take for so many items."""
    tries = 0
    while group.loaded < group.workers:
        tries += 1
        list(group.map(work_items(2 * group.workers, 0.05, 0, f"warm {tries}")))
    began = time.perf_counter()
    outcomes = list(group.map(work_items(count, sleep, size, "timed")))
    seconds = time.perf_counter() - began
    assert sum(outcome.result is not None for outcome in outcomes) == count
    return seconds


def measure(name: str, task: WorkerTask, work: str, count: int, sleep: float | None, size: int) -> list[ScalingRow]:
    """One executor with 1, 2 and 4 workers."""
    rows: list[ScalingRow] = []
    for workers in COUNTS:
        executor: Executor = SpawnExecutor(workers) if name == "spawn" else RayExecutor(workers)
        with executor.open(task) as group:
            seconds = seconds_of(group, count, sleep or 0.0, size)
        first = rows[0].seconds if rows else seconds
        overhead = None if sleep is None else 1000 * (workers * seconds / count - sleep)
        rows.append(ScalingRow(name, work, workers, count, seconds, first / (workers * seconds), overhead))
        print(rows[-1], flush=True)
    return rows


def table(document: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    lines = [
        f"`{document['command']}`, {document['cores']} cores of {document['machine']}, load average "
        f"{document['load']:.1f} at the end, wall time",
        "",
        "| executor | work | workers | items | seconds | efficiency | ms of a worker per item beyond the work |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        overhead = "" if row["overhead_ms"] is None else f"{row['overhead_ms']:.1f}"
        lines.append(
            f"| {row['executor']} | {row['work']} | {row['workers']} | {row['items']} | {row['seconds']:.2f} | "
            f"{row['efficiency']:.2f} | {overhead} |"
        )
    return lines


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("spawn", "ray"))
    parser.add_argument("--sleep", type=float, default=0.5, help="seconds of the stand-in")
    parser.add_argument("--count", type=int, default=24, help="items")
    parser.add_argument("--real", action="store_true", help="also the real step")
    parser.add_argument("--no-stand-in", action="store_true", help="keep the stored figures of the stand-in")
    parser.add_argument("--write", action="store_true", help="the table into docs/scale.md")
    options = parser.parse_args()
    names = [options.only] if options.only else ["spawn", "ray"]
    if importlib.util.find_spec("ray") is None:
        names = [name for name in names if name != "ray"]
    earlier = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    # What is measured now replaces what is stored; a row without an overhead is one of the real step.
    replaced = {True: options.real, False: not options.no_stand_in}
    rows = [row for row in earlier if row["executor"] not in names or not replaced[row["overhead_ms"] is None]]
    for name in names:
        stand_in = f"stand-in, {options.sleep:g} s, 100 kB"
        new: list[ScalingRow] = []
        if not options.no_stand_in:
            new += measure(name, SleepTask(), stand_in, options.count, options.sleep, 100_000)
        if options.real:
            new += measure(name, StepTask(), "step on testbed/llava", options.count, None, 0)
        rows += [asdict(row) for row in new]
        document = {
            "command": "python benchmarks/scaling.py --real --write",
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "load": os.getloadavg()[0],
            "rows": sorted(rows, key=lambda row: (row["executor"] != "spawn", row["work"], row["workers"])),
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    if options.write:
        put(PAGE, "scaling", table(document))


if __name__ == "__main__":
    main()
