"""What benchmarks with real processes share: workers killed at random moments, and a driver killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from equipoise.execution import WorkerGroup


class WorkerKiller:
    """Kills so many workers in all with `kill -9`; to be called after each result.

    Args:
        kills: how many.
        seed: of the moments and the workers.
    """

    def __init__(self, kills: int, seed: int) -> None:
        self.left = kills
        self.killed = 0
        self._random = random.Random(seed)
        self._calls = 0

    def __call__(self, group: WorkerGroup) -> None:
        """Kill a worker at every fourth call."""
        self._calls += 1
        # An item that has cost a worker already is left alone: a second death would set it aside.
        workers = [name for name, way in group.underway.items() if way.item.key not in group.deaths]
        if self.left and workers and self._calls % 4 == 0:
            time.sleep(self._random.random() * 0.05)
            backend: Any = group._backend
            os.kill(backend.process_id(self._random.choice(workers)), signal.SIGKILL)
            self.left -= 1
            self.killed += 1


def kill_driver(
    script: str, folder: str, kills: int, lines: Callable[[int], int], kept: Callable[[], int]
) -> dict[str, Any]:
    """Start a script with `--drive FOLDER`, kill it several times, and then let it end.

    Args:
        script: prints a line for each piece of work.
        folder: where its results are.
        kills: how many times.
        lines: after how many of its lines it is killed, by the number of the kill.
        kept: counts the results in the folder.
    """
    command: Sequence[str] = [sys.executable, script, "--drive", folder]
    counts = []
    for number in range(kills):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            for _ in range(lines(number)):
                driver.stdout.readline()
            driver.kill()
        counts.append(kept())
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return {"kills": kills, "kept_after_each": counts}


def losses(wanted: Iterable[str], results: Iterable[str]) -> dict[str, int]:
    """How many results are missing, and how many are there again.

    Args:
        wanted: the name of every piece of work, once.
        results: the names of the results that are there.

    Raises:
        RuntimeError: a result of nothing that was wanted.
    """
    names, counts = set(wanted), Counter(results)
    if foreign := counts.keys() - names:
        raise RuntimeError(f"expected results of {len(names)} pieces of work, got others: {sorted(foreign)[:3]}")
    return {"lost": len(names - counts.keys()), "doubled": sum(count - 1 for count in counts.values())}
