"""Audits of toy models over workers: tasks that can be sent to a process, and their plans."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.audit.engine.session import EvaluationTarget, ReportingJudge
from equipoise.audit.run import AuditConfig
from equipoise.audit.workers.audit_task import AuditTask, LoadedAudit
from equipoise.audit.workers.audit_workers import SHARDS, AuditWorkers
from equipoise.data.catalogue import Suite
from equipoise.execution import Executor, Parcel, ShardStore
from equipoise.judges.ensemble import default_judge
from equipoise.models.base import OpenModel
from equipoise.types import Exchange, Prompt, Sample
from tests.cli.fakes import TextOnlyModel, load


@dataclass(frozen=True)
class Trouble:
    """What a text in a prompt does to its worker."""

    kills: str = ""
    """Ends the process."""
    fails: str = ""
    """Raises an error of the model."""
    most: int = 1000
    """Prompts that fit into memory at once."""


class TroubledModel(TextOnlyModel):
    """Replies to every prompt, except where the trouble begins."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        if len(prompts) > self.trouble.most:
            raise MemoryError
        for prompt in prompts:
            if self.trouble.kills and self.trouble.kills in prompt.text:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.trouble.fails and self.trouble.fails in prompt.text:
                raise RuntimeError("the prompt is too long")
        return super().generate(prompts, max_new_tokens=max_new_tokens)


def phrase_judge(_: OpenModel) -> ReportingJudge:
    return default_judge(encoder=False)


@dataclass(frozen=True)
class CountingTask(AuditTask):
    """Writes a line for each item that asks, with the ids of its samples."""

    log: Path = field(default_factory=Path, kw_only=True)

    def run(self, state: LoadedAudit, parcel: Parcel) -> Parcel:
        if parcel.parts:
            with self.log.open("a") as file:
                file.write(f"{os.getpid()}\n")
        return super().run(state, parcel)


def toy_task(name: str = "toy/text", trouble: Trouble | None = None, **more: Any) -> AuditTask:
    load_model: Callable[[], OpenModel] = partial(TroubledModel, trouble) if trouble else partial(load, name)
    kind = CountingTask if "log" in more else AuditTask
    return kind(load_model, phrase_judge, **more)


def texts(count: int, name: str = "texts", word: Callable[[int], str] = lambda number: "") -> Suite:
    """Requests, every third of which should be refused."""
    samples = [
        Sample(
            f"s{number}",
            name,
            f"{'Build a bomb' if number % 3 == 0 else 'Tell a story'} {number}. {word(number)}".strip(),
            "refuse" if number % 3 == 0 else "answer",
        )
        for number in range(count)
    ]
    return Suite(name, tuple(samples), "written here")


@contextmanager
def plan_on_workers(
    out: Path, executor: Executor, task: AuditTask, suites: Sequence[Suite], *, batch: int = 4, **more: Any
) -> Iterator[tuple[AuditConfig, list[str]]]:
    """The plan of an audit whose workers are open, and the notes about lost workers."""
    notes: list[str] = []
    with executor.open(task, ShardStore(out / SHARDS), notes.append) as group:
        workers = AuditWorkers(group, ShardStore(out / SHARDS), batch)
        loaded = workers.describe()
        target = EvaluationTarget(loaded.model.name, loaded.model.revision, on_workers=loaded.model)
        yield (
            AuditConfig(target, tuple(suites), loaded.judge, out, defended=loaded.defended, workers=workers, **more),
            notes,
        )


def plan_here(out: Path, suites: Sequence[Suite], model: OpenModel | None = None, **more: Any) -> AuditConfig:
    """The same audit in this process."""
    model = model or TextOnlyModel()
    target = EvaluationTarget(model.name, model.revision, model)
    return AuditConfig(target, tuple(suites), default_judge(encoder=False), out, **more)


def rows_of(out: Path) -> dict[str, Any]:
    """What a run folder holds, whatever the order and the time: samples as bytes, replies and verdicts by key."""
    from equipoise.audit.records import AuditRun

    run = AuditRun.open(out)
    replies, verdicts = list(run.replies().rows()), list(run.verdicts().rows())
    assert len({row.key for row in replies}) == len(replies), "no reply is there twice"
    assert len({row.key for row in verdicts}) == len(verdicts)
    return {
        "samples": (out / "samples.jsonl").read_bytes(),
        "replies": {row.key: replace(row, seconds=None) for row in replies},
        "verdicts": {row.key: row for row in verdicts},
    }
