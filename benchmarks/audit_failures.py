"""An audit over real processes whose workers and whose driver are killed: no reply is lost, none is there twice.

    python benchmarks/audit_failures.py --kills 20 --drivers 5 --write

The model is a stand-in that says what it was asked, so that every reply can be checked; batches, shards, run folder and
judge are those of `equipoise audit --workers 2`. Results go to benchmarks/results/audit_failures.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from equipoise.execution import ShardStore, SpawnExecutor, WorkerGroup
from equipoise.models.base import OpenModel
from equipoise.types import Exchange, Prompt, Sample
from killed_processes import WorkerKiller, kill_driver, losses
from page import put

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "audit_failures.json"
PAGE = ROOT / "docs" / "scale.md"


class EchoModel(OpenModel):
    """Says what it was asked, after a moment."""

    name = revision = "echo"
    reads_pictures = False

    def __init__(self) -> None:
        import torch

        self.device = torch.device("cpu")

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The replies."""
        time.sleep(0.05)
        return [Exchange(prompt, f"You said: {prompt.text}", "stop", "echo@echo") for prompt in prompts]

    def log_prob(self, *_: Any, **__: Any) -> Any:
        """Nobody needs it here."""
        raise NotImplementedError


def phrase_judge(_: OpenModel) -> Any:
    """A judge that loads nothing."""
    from equipoise.judges.ensemble import default_judge

    return default_judge(encoder=False)


def run_audit(out: Path, count: int, progress: Callable[[WorkerGroup], None]) -> list[str]:
    """An audit of so many prompts over two processes, in batches of two; returns the lines about lost workers."""
    from equipoise.audit.engine.session import EvaluationTarget
    from equipoise.audit.run import AuditCallbacks, AuditConfig, audit
    from equipoise.audit.workers.audit_task import AuditTask
    from equipoise.audit.workers.audit_workers import SHARDS, AuditWorkers
    from equipoise.data.catalogue import Suite

    lines: list[str] = []
    store = ShardStore(out / SHARDS)
    samples = tuple(Sample(f"s{number}", "numbers", f"What is {number}?", "answer") for number in range(count))
    with SpawnExecutor(2).open(AuditTask(EchoModel, phrase_judge), store, lines.append) as group:
        workers = AuditWorkers(group, store, batch=2)
        loaded = workers.describe()
        target = EvaluationTarget(loaded.model.name, loaded.model.revision, on_workers=loaded.model)
        plan = AuditConfig(target, (Suite("numbers", samples, ""),), loaded.judge, out, workers=workers)
        audit(plan, AuditCallbacks(progress=lambda _: progress(group)))
    return lines


def lost_and_doubled(out: Path, count: int) -> dict[str, int]:
    """How many prompts have no reply or no verdict, and how many have two.

    Raises:
        RuntimeError: a reply to another prompt.
    """
    from equipoise.audit.records import AuditRun

    run = AuditRun.open(out)
    replies, verdicts = list(run.replies().rows()), list(run.verdicts().rows())
    samples = {row.key: row.sample.text for row in run.samples().rows()}
    if any(row.reply != f"You said: {samples[row.key]}" for row in replies):
        raise RuntimeError(f"expected every reply at its own prompt in {out}")
    parts = [losses((f"What is {number}?" for number in range(count)), samples.values())]
    parts += [losses(samples, (row.key for row in rows)) for rows in (replies, verdicts)]
    return {key: sum(part[key] for part in parts) for key in ("lost", "doubled")}


def kill_audit_workers(kills: int) -> dict[str, Any]:
    """Kill the processes of an audit at random moments."""
    killer, count = WorkerKiller(kills, seed=2), 16 * kills
    with tempfile.TemporaryDirectory() as folder:
        lines = run_audit(Path(folder), count, killer)
        counts = lost_and_doubled(Path(folder), count)
    return {"kills": killer.killed, "prompts": count, **counts, "lines": len(lines)}


def kill_audit_drivers(kills: int) -> dict[str, Any]:
    """Kill the process of an audit that hands out batches; the same command goes on."""
    count = 80
    with tempfile.TemporaryDirectory() as folder:
        replies = Path(folder) / "replies.jsonl"
        result = kill_driver(
            __file__,
            folder,
            kills,
            lambda number: 2 + 3 * number,
            lambda: replies.read_bytes().count(b"\n") if replies.exists() else 0,
        )
        counts = lost_and_doubled(Path(folder), count)
    return {"prompts": count, **counts, **result}


def table(document: dict[str, Any]) -> list[str]:
    """The lines of the page."""
    lines = [
        "`python benchmarks/audit_failures.py --kills 20 --drivers 5 --write`; two processes, batches of two prompts",
        "",
    ]
    if "workers" in document:
        row = document["workers"]
        lines.append(
            f"An audit of {row['prompts']} prompts, of whose workers {row['kills']} were killed (`kill -9`): "
            f"{row['lost']} lost, {row['doubled']} doubled, {row['lines']} lines about it."
        )
    if "drivers" in document:
        row = document["drivers"]
        kept = ", ".join(map(str, row["kept_after_each"]))
        lines.append(
            f"The command killed {row['kills']} times over {row['prompts']} prompts (replies kept after each: {kept}); "
            f"the same command then ended with {row['lost']} lost and {row['doubled']} doubled."
        )
    return lines


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="workers to kill")
    parser.add_argument("--drivers", type=int, default=0, help="drivers to kill")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="the lines into docs/scale.md")
    options = parser.parse_args()
    if options.drive:
        run_audit(Path(options.drive), 80, lambda group: print("a batch", flush=True))
        return
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.kills:
        document["workers"] = kill_audit_workers(options.kills)
    if options.drivers:
        document["drivers"] = kill_audit_drivers(options.drivers)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))
    if options.write:
        put(PAGE, "audit-failures", table(document))


if __name__ == "__main__":
    main()
