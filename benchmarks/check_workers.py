"""What worker processes for the checks bring, and whether replies of several requests should share a forward pass.

    python benchmarks/check_workers.py [--rounds 6] [--requests 160] [--clients 16] [--workers 0 1 2] [--page]

One gateway for each number of `--check-workers` runs from the beginning to the end, and they are loaded in turn, in
another order each round, so that other work on the machine changes the ratio little. The upstream, the gateway and the
clients share the cores; on a machine with more of them, name more workers. The second table is processor time of one
thread for one reply of a hundred words in the detector's usual format: of the detector alone, given 1 to 8 different
replies, and of whole checks, 16 at once, of which 1 to 8 may share a forward pass.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from gateway import FIRST, REPLY, _load, free_port, instructions, ours, serving
from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "check_workers.json"
PAGE = ROOT / "docs" / "gateway.md"
BATCHES = (1, 2, 4, 8)
BURST = 16
"""Checks at once."""
DETECTORS = ("embedded", "embedded-fast")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Requests a second of each gateway in each round, and the memory of its processes."""
    rates: dict[str, list[float]] = {str(workers): [] for workers in arguments.workers}
    memory: dict[str, float] = {}
    failed = 0
    loads = [os.getloadavg()[0]]
    draws = random.Random(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        target = f"http://127.0.0.1:{port}/v1"
        command = [sys.executable, str(Path(__file__).with_name("gateway.py")), "--upstream", str(port)]
        stack.enter_context(serving(command, target, folder / "up.log"))
        urls = {}
        for workers in arguments.workers:
            at = free_port()
            command = ours(target, folder, at, "[pictures]\nread_text = false\n", "--check-workers", str(workers))
            url = f"http://127.0.0.1:{at}/v1"
            urls[str(workers)] = stack.enter_context(serving(command, url, folder / f"{at}.log"))
            memory[str(workers)] = megabytes(str(at))
        for number in range(-1, arguments.rounds):
            for workers in draws.sample(list(urls), len(urls)):
                # The first round warms up.
                requests = arguments.requests if number >= 0 else 2 * arguments.clients
                got = asyncio.run(_load(urls[workers], arguments.clients, requests))
                failed += got["failed"]
                if number >= 0:
                    rates[workers].append(got["rps"])
                    print(number, workers, got["rps"], flush=True)
            loads.append(os.getloadavg()[0])
    return {
        "cores": os.cpu_count(),
        "instructions": instructions(),
        "clients": arguments.clients,
        "requests": arguments.requests,
        "failed": failed,
        "rates": rates,
        "megabytes": memory,
        "load": [round(value, 1) for value in loads],
        "batches": batches(arguments.replies),
    }


def megabytes(port: str) -> float:
    """Proportional memory of the gateway at a port and of the processes that it started."""
    processes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            processes[int(folder.name)] = (parent, (folder / "cmdline").read_bytes().split(b"\0"))
        except OSError:
            continue
    tree = {number for number, (_, words) in processes.items() if b"serve" in words and port.encode() in words}
    tree |= {number for number, (parent, _) in processes.items() if parent in tree}
    shares = [Path(f"/proc/{number}/smaps_rollup").read_text() for number in tree]
    return round(sum(int(text.split("Pss:")[1].split()[0]) for text in shares) / 1024)


def batches(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of processor time for one reply, by detector and by what is timed, then by the size of the batch.

    In a process of its own with one thread, so that nothing of the gateways is in it.
    """
    command = [sys.executable, __file__, "--batches", str(rounds)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def print_batches(rounds: int) -> None:
    """The part of that process: each size in each round, in another order each time."""
    import torch

    from equipoise.guard.async_guard import AsyncGuard
    from equipoise.guard.detector import load
    from equipoise.guard.guard_input import GuardInput
    from equipoise.guard.pipeline import GuardPipeline
    from equipoise.guard.policy import Policy

    torch.set_num_threads(1)
    draws, numbers = random.Random(0), count()
    taken: dict[str, dict[str, list[float]]] = {}

    def replies(many: int) -> list[GuardInput]:
        return [GuardInput(FIRST.format(next(numbers)) + REPLY, "What keeps bread fresh?") for _ in range(many)]

    async def checked(guard: AsyncGuard, items: list[GuardInput]) -> None:
        await asyncio.gather(*(guard.check(item, Policy()) for item in items))

    for name in DETECTORS:
        detector = load(name)
        guards = {size: AsyncGuard(GuardPipeline(detector), together=size) for size in BATCHES}
        alone = taken[f"{name} alone"] = {str(size): [] for size in BATCHES}
        whole = taken[f"{name} whole"] = {str(size): [] for size in BATCHES}
        for at in range(-2, rounds):
            for size in draws.sample(BATCHES, len(BATCHES)):
                few, many = replies(size), replies(BURST)
                first = time.process_time()
                detector(few)
                second = time.process_time()
                asyncio.run(checked(guards[size], many))
                third = time.process_time()
                if at >= 0:
                    alone[str(size)].append(round(1000 * (second - first) / size, 2))
                    whole[str(size)].append(round(1000 * (third - second) / BURST, 2))
    print(json.dumps(taken))


def render(results: dict[str, Any]) -> None:
    """Write both tables."""
    rates = {workers: np.array(values) for workers, values in results["rates"].items()}
    first, *_ = rates
    load = results["load"]
    lines = [
        f"{results['cores']} cores ({results['instructions']}) for upstream, gateways and clients together, with other",
        f"work on them (load average {min(load)} to {max(load)}), so only ratios mean something; {results['clients']}",
        f"clients, unique replies of a hundred words, {len(rates[first])} rounds, {results['failed']} failed requests.",
        "",
        "| `--check-workers` | requests a second, as a multiple of the first row in the same round: median (range) "
        "| memory, MiB |",
        "|---|---|---|",
    ]
    for workers, values in rates.items():
        ratios = values / rates[first]
        shown = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        lines.append(f"| {workers} | {shown} | {results['megabytes'][workers]:.0f} |")
    sizes = [size for size in BATCHES if size > 1]
    lines += [
        "",
        "| processor time of a reply, as a multiple of that by itself | "
        + "".join(f"{size} together | " for size in sizes).rstrip(),
        f"|---|{'---|' * len(sizes)}",
    ]
    for name, times in results["batches"].items():
        cells = [f"{np.median(times[str(size)]) / np.median(times['1']):.2f}" for size in sizes]
        detector, what = name.split()
        lines.append(f"| `{detector}`, {'the detector' if what == 'alone' else 'whole checks'} | {' | '.join(cells)} |")
    put(PAGE, "check workers", lines)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=160, help="in each round, of all clients")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--replies", type=int, default=20, help="batches of each size in the second table")
    parser.add_argument("--page", action="store_true", help="render the tables from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        RESULTS.write_text(json.dumps(measure(arguments), indent=1) + "\n", encoding="utf-8")
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--batches"]:
        print_batches(int(sys.argv[2]))
    else:
        main()
