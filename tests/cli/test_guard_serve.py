"""`equipoise guard serve --check-workers` as a process: a killed worker comes back, and SIGTERM leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.child_process import environment

SOON = 90.0


def children(process: int) -> dict[int, str]:
    """The workers of a process that have not ended."""
    workers = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z" and "spawn_main" in command:
            workers[int(folder.name)] = command
    return workers


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_workers_come_back_and_end_with_their_gateway(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "equipoise.cli.main", "guard", "serve", "--upstream", "http://127.0.0.1:9/v1"]
    command += ["--port", "0", "--detector", "testbed", "--check-workers", "2", "--record", str(tmp_path / "record.db")]
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen(command, stdout=-1, stderr=log, text=True, env=environment()) as gateway:
        try:
            assert gateway.stdout is not None
            line = gateway.stdout.readline()
            assert "checks in 2 processes" in line
            url = line.split()[2]
            workers = children(gateway.pid)
            assert len(workers) == 2
            judged = httpx.post(f"{url}/moderations", json={"input": ["tea"] * 4}, timeout=SOON, trust_env=False)
            assert judged.status_code == 200
            first = next(iter(workers))
            # Neither signal is a worker's: both reach all processes of a terminal or a service.
            os.kill(first, signal.SIGTERM)
            os.kill(first, signal.SIGINT)
            time.sleep(0.2)
            assert first in children(gateway.pid)
            os.kill(first, signal.SIGKILL)
            until(lambda: len(children(gateway.pid)) == 2 and first not in children(gateway.pid))
            judged = httpx.post(f"{url}/moderations", json={"input": ["tea"] * 4}, timeout=SOON, trust_env=False)
            assert judged.status_code == 200
            workers = children(gateway.pid)
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(SOON)
            until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        finally:
            gateway.kill()
