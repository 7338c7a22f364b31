"""Audits over workers: the rows of one process, whatever dies; failures are the prompts' own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.records import AuditRun
from equipoise.audit.run import AuditCallbacks, audit
from equipoise.audit.summary import summarise
from equipoise.audit.workers.audit_workers import SHARDS
from equipoise.errors import ModelError, OutputError
from equipoise.execution import InProcessExecutor, SpawnExecutor
from equipoise.execution.spawn import SpawnBackend
from tests.audit.test_run import suite as photos
from tests.audit.workers.tasks import Trouble, plan_here, plan_on_workers, rows_of, texts, toy_task
from tests.child_process import environment
from tests.cli.fakes import BrightnessModel

HERE = InProcessExecutor()


def test_workers_and_one_process_write_the_same_rows(tmp_path: Path) -> None:
    model = BrightnessModel("toy/target")
    suites = (photos(tmp_path, 2), photos(tmp_path, 3, "others"))
    audit(plan_here(tmp_path / "here", suites, model))
    expected = rows_of(tmp_path / "here")
    shown: list[tuple[int, int]] = []
    callbacks = AuditCallbacks(progress=lambda progress: shown.append((progress.done, progress.total)))
    for name, executor in (("in process", HERE), ("spawn", SpawnExecutor(2))):
        out = tmp_path / name
        with plan_on_workers(out, executor, toy_task("toy/target"), suites) as (plan, notes):
            outcome = audit(plan, callbacks)
        assert (outcome.sent, outcome.failed, outcome.not_sent, notes) == (15, 0, 0, [])
        assert rows_of(out) == expected
        recipe, own = (AuditRun.open(folder).recipe for folder in (tmp_path / "here", out))
        assert {key: own[key] for key in own if key != "started"} == {k: recipe[k] for k in recipe if k != "started"}
        assert not (out / SHARDS).exists()
    assert shown[0] == (0, 15)
    assert shown[-1] == (15, 15)


def test_a_second_run_asks_nothing_and_goes_on_from_one_process_as_well(tmp_path: Path) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    first = audit(plan_here(out, [texts(5)]))
    assert first.sent == 5
    before = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    task = toy_task(log=log)
    with plan_on_workers(out, HERE, task, [texts(5)]) as (plan, _):
        again = audit(plan)
    assert (again.sent, again.reused, again.judged) == (0, 5, 0)
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == before
    assert not log.exists(), "no item was done"


def test_only_the_verdict_is_made_where_the_reply_is_there(tmp_path: Path) -> None:
    out = tmp_path / "run"
    audit(plan_here(out, [texts(5)]))
    expected = rows_of(out)
    (out / "verdicts.jsonl").unlink()
    replies = (out / "replies.jsonl").read_bytes()
    with plan_on_workers(out, HERE, toy_task(), [texts(5)]) as (plan, _):
        outcome = audit(plan)
    assert (outcome.sent, outcome.judged) == (0, 5)
    assert (out / "replies.jsonl").read_bytes() == replies
    assert rows_of(out) == expected


def test_defended_variants_are_asked_of_the_defended_model(tmp_path: Path) -> None:
    from equipoise.countermeasures.catalogue import defend

    suites = [photos(tmp_path, 2)]
    model = BrightnessModel("toy/target")
    audit(plan_here(tmp_path / "here", suites, model, defended=defend(model, ["jpeg:quality=50"])))
    out = tmp_path / "workers"
    task = toy_task("toy/target", defences=("jpeg:quality=50",))
    with plan_on_workers(out, HERE, task, suites) as (plan, _):
        audit(plan)
    assert rows_of(out) == rows_of(tmp_path / "here")
    assert set(summarise(AuditRun.open(out)).variants) == {"plain", "defended"}
    assert AuditRun.open(out).recipe["defence"] == AuditRun.open(tmp_path / "here").recipe["defence"]


def test_a_prompt_that_kills_its_workers_is_a_failure_and_the_others_of_its_batch_are_not(tmp_path: Path) -> None:
    out = tmp_path / "run"
    suite = texts(10, word=lambda number: "poison" if number == 5 else "")
    with plan_on_workers(out, SpawnExecutor(2), toy_task(trouble=Trouble(kills="poison")), [suite]) as (plan, notes):
        outcome = audit(plan)
    assert (outcome.sent, outcome.failed, outcome.not_sent) == (9, 1, 0)
    run = AuditRun.open(out)
    (failed,) = [row for row in run.replies().rows() if row.error is not None]
    assert failed.permanent
    assert failed.error == (
        "expected a result of texts s5, got 2 lost workers (killed by signal 9; killed by signal 9); "
        "try it alone, without workers"
    )
    assert len(notes) == 2, "one line for its batch, one for itself"
    assert all("killed by signal 9" in note for note in notes)
    case = next(case for case in run.cases() if case.sample.id == "s5")
    assert case.verdict.unscored == f"no reply: {failed.error}"
    # The same command asks that prompt again, and no other.
    with plan_on_workers(out, HERE, toy_task(trouble=Trouble()), [suite]) as (plan, _):
        assert audit(plan).sent == 1
    assert summarise(AuditRun.open(out)).complete


def test_an_error_of_the_model_is_its_prompts_own(tmp_path: Path) -> None:
    suite = texts(6, word=lambda number: "long" if number == 2 else "")
    with plan_on_workers(tmp_path, HERE, toy_task(trouble=Trouble(fails="long")), [suite]) as (plan, _):
        outcome = audit(plan)
    assert (outcome.sent, outcome.failed) == (5, 1)
    (failed,) = [row for row in AuditRun.open(tmp_path).replies().rows() if row.error is not None]
    assert failed.error == "RuntimeError: the prompt is too long"


def test_a_batch_that_does_not_fit_into_a_workers_memory_is_halved(tmp_path: Path) -> None:
    with plan_on_workers(tmp_path, HERE, toy_task(trouble=Trouble(most=2)), [texts(9)], batch=8) as (plan, _):
        outcome = audit(plan)
    assert (outcome.sent, outcome.failed) == (9, 0)


def test_where_nothing_comes_back_the_run_stops_early(tmp_path: Path) -> None:
    with plan_on_workers(tmp_path, HERE, toy_task(trouble=Trouble(fails="")), [texts(60)]) as (plan, _):
        outcome = audit(replace(plan, target=replace(plan.target, revision="another")))
    assert outcome.fatal is not None
    assert "expected revision another" in outcome.fatal
    assert outcome.sent == 0
    assert outcome.failed + outcome.not_sent == 60
    assert outcome.failed < 60


def test_a_model_that_cannot_be_loaded_is_the_error_of_the_run(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match="expected a model, got nothing at toy/none"),
        plan_on_workers(tmp_path / "run", SpawnExecutor(1), toy_task("toy/none"), [texts(2)]),
    ):
        raise AssertionError("not reached")


def test_a_full_disk_ends_the_run_and_results_in_shards_are_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log = tmp_path / "run", tmp_path / "log"
    append = AppendOnlyLog.append

    def full(self: AppendOnlyLog[Any], rows: Any) -> None:
        if self.path.name == "replies.jsonl" and len(list(self.rows())) >= 8:
            raise OutputError("cannot write replies.jsonl: No space left on device; try freeing some space")
        append(self, rows)

    monkeypatch.setattr(AppendOnlyLog, "append", full)
    disk_is_full = pytest.raises(OutputError, match="No space left")
    with plan_on_workers(out, HERE, toy_task(log=log), [texts(20)]) as (plan, _), disk_is_full:
        audit(plan)
    assert len(rows_of(out)["replies"]) == 8
    assert list((out / SHARDS).glob("*/*")), "what a worker has done is kept"
    monkeypatch.undo()
    with plan_on_workers(out, HERE, toy_task(log=log), [texts(20)]) as (plan, _):
        outcome = audit(plan)
    assert (outcome.sent, outcome.reused) == (12, 8)
    assert len(log.read_text().splitlines()) == 5, "each batch was done once"
    audit(plan_here(tmp_path / "here", [texts(20)]))
    assert rows_of(out) == rows_of(tmp_path / "here")


def test_workers_that_are_killed_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    moments = random.Random(3)
    suite = texts(24)
    reports = 0
    with plan_on_workers(tmp_path / "run", SpawnExecutor(2), toy_task(), [suite], batch=2) as (plan, notes):
        assert plan.workers is not None
        backend: Any = plan.workers.group._backend
        assert isinstance(backend, SpawnBackend)

        def kill(progress: Any) -> None:
            nonlocal reports
            reports += 1
            worker = moments.choice(list(backend.names))
            process = backend.process_id(worker)
            if reports in (3, 6, 9) and process is not None:
                os.kill(process, signal.SIGKILL)

        outcome = audit(plan, AuditCallbacks(progress=kill))
    assert (outcome.sent, outcome.failed) == (24, 0)
    audit(plan_here(tmp_path / "here", [suite]))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "here")
    assert all("killed by signal 9" in note for note in notes)


DRIVER = """
    import sys, time
    from pathlib import Path
    from equipoise.audit.run import AuditCallbacks, audit
    from equipoise.execution import SpawnExecutor
    from tests.audit.workers.tasks import plan_on_workers, texts, toy_task

    if __name__ == "__main__":
        out = Path(sys.argv[1])
        with plan_on_workers(out, SpawnExecutor(2), toy_task(), [texts(24)], batch=2) as (plan, notes):
            audit(plan, AuditCallbacks(progress=lambda progress: print(progress.done, flush=True) or time.sleep(0.02)))
"""


def test_a_driver_that_is_killed_goes_on_with_the_same_command(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    out = tmp_path / "run"
    line = [sys.executable, str(script), str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment()) as first:
        assert first.stdout is not None
        for done in first.stdout:
            if int(done) >= 6:
                break
        first.kill()
    assert len(rows_of(out)["replies"]) >= 6
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env=environment(), timeout=600)
    audit(plan_here(tmp_path / "here", [texts(24)]))
    assert rows_of(out) == rows_of(tmp_path / "here")
