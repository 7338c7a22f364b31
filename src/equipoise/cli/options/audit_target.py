"""What an audit asks and who judges it: loaded in this process, or by workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.cli.console import warn
from equipoise.cli.options.audit import RequestOptions
from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.judge import JudgeOptions
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.audit.engine.session import EvaluationTarget, ModelOnWorkers, ReportingJudge
    from equipoise.audit.workers.audit_workers import AuditWorkers, JudgeOnWorkers
    from equipoise.execution.executors import Executor
    from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class TargetChoice:
    """What the options of an audit name."""

    model: str
    """As the user called it."""
    defences: tuple[str, ...]
    """Countermeasures for the defended variants."""
    suites: tuple[str, ...]
    """Names of the suites; none means those that the model is for."""
    judges: JudgeOptions
    """Who judges."""
    requests: RequestOptions
    """How a served model is asked."""
    compute: GradientOptions
    """How a model is loaded."""

    def load_judge(self, model: object) -> ReportingJudge:
        """The judge for an audit of this model."""
        return self.judge_of(self.judges.load(self.compute), model)

    def judge_of(self, judge: ReportingJudge, model: object) -> ReportingJudge:
        """A judge with the rules of the suites that the model is asked."""
        from equipoise.cli.options.suites import default_suites
        from equipoise.reference.mllm.scene_judge import judge_for_suites

        return judge_for_suites(judge, self.suites or default_suites(self.model, model))


@dataclass(frozen=True)
class LoadedTarget:
    """A target with its judge."""

    target: EvaluationTarget
    """Who is asked."""
    defended: OpenModel | ModelOnWorkers | None
    """The target in its countermeasures; None without any."""
    judge: ReportingJudge | JudgeOnWorkers
    """Whose verdicts make the numbers."""
    workers: AuditWorkers | None = None
    """Who asks and judges; None is this process."""


@contextmanager
def open_target(
    choice: TargetChoice, executor: Executor | None, folder: Path, *, overwrite: bool, here: bool
) -> Iterator[LoadedTarget]:
    """Load target and judge, on workers where an executor is given, which end with the `with`.

    Args:
        choice: what the options name.
        executor: where prompts are asked; None is this process.
        folder: of the run.
        overwrite: whether the run in it goes, with what its workers have left.
        here: whether this process needs the model and the judge, too, as for an attack on pictures.

    Raises:
        UsageError: workers for a served model, or options that do not go together.
        ModelError: there is no such model.
    """
    if executor is None:
        yield _load_here(choice)
        return
    from equipoise.audit.engine.provider import BATCH
    from equipoise.audit.engine.session import EvaluationTarget
    from equipoise.audit.workers.audit_task import AuditTask
    from equipoise.audit.workers.audit_workers import SHARDS, AuditWorkers
    from equipoise.execution.shards import ShardStore
    from equipoise.folder_lock import claim_folder

    require_local(choice.model, choice.requests)
    store = ShardStore(folder / SHARDS)
    task = AuditTask(partial(choice.compute.load, choice.model), choice.load_judge, choice.defences)
    if overwrite:
        # Under the lock: the results that wait there may be those of a run that is going on.
        with claim_folder(folder):
            store.clear()
    try:
        with executor.open(task, store, warn) as group:
            workers = AuditWorkers(group, store, choice.requests.connections or BATCH)
            if here:
                loaded = _load_here(choice)
                yield LoadedTarget(loaded.target, loaded.defended, loaded.judge, workers)
                return
            on_workers = workers.describe()
            model = on_workers.model
            target = EvaluationTarget(choice.model, model.revision, on_workers=model)
            yield LoadedTarget(target, on_workers.defended, on_workers.judge, workers)
    finally:
        # What workers have done and the run has not taken stays for the next run; an empty folder goes.
        store.remove_empty()


def clear_run(folder: Path) -> None:
    """Remove a run that nobody writes, and nothing that is not its own: rules or notes beside it stay.

    Raises:
        UsageError: it is no run, or another process writes it.
    """
    from equipoise.audit.records import AuditRun
    from equipoise.audit.run_names import is_own
    from equipoise.audit.workers.audit_workers import SHARDS
    from equipoise.folder_lock import claim_folder

    if not folder.exists():
        return
    # Earlier versions locked a file, which may still be there.
    if not any(path.name not in (SHARDS, ".lock") for path in folder.iterdir()):
        return
    AuditRun.open(folder)
    content = [path for path in folder.iterdir() if is_own(path.name)]
    with claim_folder(folder):
        for path in content:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _load_here(choice: TargetChoice) -> LoadedTarget:
    from equipoise.cli.options.target import defend_target, find_target

    # The judge first: a misspelt one is reported before minutes of loading.
    judge, requests = choice.judges.load(choice.compute), choice.requests
    target = find_target(choice.model, choice.compute, requests.api_key_env, requests.endpoint)
    return LoadedTarget(target, defend_target(target, choice.defences), choice.judge_of(judge, target.model))


def require_local(model: str, requests: RequestOptions) -> None:
    """Raise a `UsageError` where workers could not load a model, or options are those of a served one."""
    from equipoise.cli.options.target import INSPECT

    if model.startswith((INSPECT, "http://", "https://")):
        raise UsageError(
            f"expected a model with weights for workers, got {model}; try --connections 64 without --workers"
        )
    if requests.timeout is not None:
        raise UsageError("expected --item-seconds for workers, got --timeout; try --item-seconds 600")
    if requests.endpoint:
        raise UsageError(f"expected no option of a served model, got one for {model}; try it without")
