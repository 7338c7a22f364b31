"""Checks in worker processes decide as here; a worker that dies, hangs or is killed costs at most its own pieces."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from equipoise.errors import ModelError
from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import CLIENT
from equipoise.guard.check_pool import CheckPool
from equipoise.guard.decision import GuardDecision
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import FAIL_MODE
from equipoise.guard.policy import Policy, Rail
from tests.child_process import environment
from tests.guard.pool_guards import BrokenGuard, ObeyingGuard

pytestmark = pytest.mark.anyio
SOON = 60.0
"""Seconds after which a test gives up waiting."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def guarded(folder: Path, workers: int, *, seconds: float = SOON, together: int = 1) -> Iterator[AsyncGuard]:
    guard = AsyncGuard.in_workers(ObeyingGuard(folder, together), workers, seconds=seconds)
    try:
        yield guard
    finally:
        guard.close()


def check(guard: AsyncGuard, text: str, client: str = "a") -> asyncio.Task[GuardDecision]:
    async def run() -> GuardDecision:
        CLIENT.set(client)
        return await guard.check(GuardInput(text), Policy())

    return asyncio.create_task(run())


async def until(condition: object) -> None:
    end = time.monotonic() + SOON
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def processes(guard: AsyncGuard) -> list[int]:
    assert guard.pool is not None
    return guard.pool.process_ids


def deaths(guard: AsyncGuard) -> int:
    assert guard.pool is not None
    return guard.pool.deaths


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for is still there, and does nothing.
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:1]


async def test_decisions_are_those_of_this_process(tmp_path: Path) -> None:
    items = [
        GuardInput("fine", "how?"),
        GuardInput("a bomb", "how?"),
        GuardInput("fine", "how?", side_texts=("a bomb",)),
        GuardInput(""),
        GuardInput("a b\u200bomb"),
        GuardInput("raise"),
    ]
    policies = [
        Policy(),
        Policy(output=Rail(action="refuse")),
        Policy(mode="observe"),
        Policy(output=Rail(fail="open")),
        Policy(output=Rail(enabled=False)),
    ]
    here = AsyncGuard(ObeyingGuard(tmp_path)())
    with guarded(tmp_path, 2) as there:
        assert (there.pipeline.detector.name, there.pipeline.detector.identity) == ("words", "words-1")
        assert there.pipeline.policy == here.pipeline.policy
        for policy in policies:
            for rewrite in (True, False):
                cases = [(guard.check(item, policy, rewrite=rewrite)) for guard in (here, there) for item in items]
                decisions = await asyncio.gather(*cases)
                assert decisions[: len(items)] == decisions[len(items) :]
        assert await there.probe("fine", SOON) is None
        assert len(processes(there)) == 2
        assert deaths(there) == 0
    here.close()


async def test_two_workers_check_at_the_same_time(tmp_path: Path) -> None:
    with guarded(tmp_path, 2) as guard:
        # Each of them waits for the other: one after the other they would never end.
        decisions = await asyncio.gather(check(guard, "meet one two"), check(guard, "meet two one", "b"))
        assert [decision.action for decision in decisions] == ["allow", "allow"]


async def test_a_worker_that_is_killed_costs_nobody_a_check(tmp_path: Path) -> None:
    with guarded(tmp_path, 2) as guard:
        before = processes(guard)
        first, second = check(guard, "meet one go"), check(guard, "meet two go", "b")
        await until(lambda: (tmp_path / "one").exists() and (tmp_path / "two").exists())
        os.kill(before[0], signal.SIGKILL)
        others = [check(guard, f"fine {number}", "c") for number in range(5)]
        await until(lambda: deaths(guard) == 1)
        (tmp_path / "go").touch()
        decisions = await asyncio.gather(first, second, *others)
        assert {decision.decided_by for decision in decisions} == {"words"}
        await until(lambda: len(processes(guard)) == 2)
        assert before[0] not in processes(guard)
        assert before[1] in processes(guard), "the other one went on"
        await until(lambda: guard.pool is not None and guard.pool.ready == 2)
        both = await asyncio.gather(check(guard, "meet three four"), check(guard, "meet four three", "b"))
        assert {decision.decided_by for decision in both} == {"words"}, "both check again"


async def test_an_idle_worker_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with guarded(tmp_path, 1) as guard:
        for number in range(2):
            (before,) = processes(guard)
            os.kill(before, signal.SIGKILL)
            # The next check comes before anybody has noticed, or while the worker starts.
            assert (await check(guard, f"fine {number}")).decided_by == "words"
            assert processes(guard) != [before]


async def test_a_text_that_ends_workers_is_tried_once_more_and_then_has_failed(tmp_path: Path) -> None:
    with guarded(tmp_path, 2) as guard:
        assert (await check(guard, "die-once mark")).decided_by == "words"
        deadly = await check(guard, "die")
        assert (deadly.action, deadly.decided_by, deadly.failure) == ("withhold", FAIL_MODE, "failed")
        await until(lambda: deaths(guard) == 3)
        assert (await check(guard, "fine")).decided_by == "words"


async def test_a_worker_that_hangs_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    with guarded(tmp_path, 2, seconds=3.0) as guard:
        hanging = check(guard, "hang")
        await until(lambda: list(tmp_path.glob("*.hangs")))
        (mark,) = tmp_path.glob("*.hangs")
        for number in range(5):
            assert (await check(guard, f"fine {number}", "b")).decided_by == "words"
        late = await hanging
        assert (late.decided_by, late.failure) == (FAIL_MODE, "late")
        await until(lambda: deaths(guard) == 1)
        assert int(mark.stem) not in processes(guard)
        assert not guard.executor.is_open
        await until(lambda: guard.pool is not None and guard.pool.ready == 2)
        assert guard.executor.hangs < 2


async def test_an_abandoned_check_ends_in_its_worker(tmp_path: Path) -> None:
    with guarded(tmp_path, 1) as guard:
        long = check(guard, "steps one never")
        await until(lambda: (tmp_path / "one").exists())
        long.cancel()
        assert (await check(guard, "fine", "b")).decided_by == "words"
        # Ended, and not only paused for ever.
        await until(lambda: (tmp_path / "one.ended").exists())
        assert deaths(guard) == 0


async def test_long_work_in_a_worker_lets_others_pass(tmp_path: Path) -> None:
    with guarded(tmp_path, 1) as guard:
        long = check(guard, "steps one enough")
        await until(lambda: (tmp_path / "one").exists())
        short = await asyncio.gather(*(check(guard, f"fine {name}", name) for name in "abc"))
        assert {decision.decided_by for decision in short} == {"words"}
        assert not long.done()
        # It has paused and goes on, also where another long piece takes turns with it.
        other = check(guard, "steps two enough", "b")
        await until(lambda: (tmp_path / "two").exists())
        (tmp_path / "enough").touch()
        assert {decision.decided_by for decision in await asyncio.gather(long, other)} == {"words"}


async def test_pieces_that_paused_in_a_dead_worker_are_tried_once_more(tmp_path: Path) -> None:
    with guarded(tmp_path, 1) as guard:
        long = check(guard, "steps one enough")
        await until(lambda: (tmp_path / "one").exists())
        deadly = check(guard, "die-once mark", "b")
        await until(lambda: deaths(guard) == 1)
        (tmp_path / "enough").touch()
        assert {decision.decided_by for decision in await asyncio.gather(long, deadly)} == {"words"}


async def test_company_is_prepared_on_the_worker_that_checks_it_and_dies_without_harm(tmp_path: Path) -> None:
    with guarded(tmp_path, 1, together=8) as guard:
        blocking = check(guard, "meet one go")
        await until(lambda: (tmp_path / "one").exists())
        texts = ["fine 1", "unpreparable", "fine 2"]
        waiting = [check(guard, text, name) for text, name in zip(texts, "bcd", strict=True)]
        await asyncio.sleep(0)
        (tmp_path / "go").touch()
        decisions = await asyncio.gather(blocking, *waiting)
        assert (tmp_path / "prepared").read_text() == " | ".join(texts) + "\n"
        assert {decision.decided_by for decision in decisions} == {"words"}
        assert deaths(guard) == 1


async def test_closing_ends_all_processes_and_what_they_compute(tmp_path: Path) -> None:
    with guarded(tmp_path, 2) as guard:
        running = processes(guard)
        hanging = [check(guard, "hang"), check(guard, "hang", "b"), check(guard, "fine", "c")]
        await until(lambda: len(list(tmp_path.glob("*.hangs"))) == 2)
        begin = time.monotonic()
        guard.close()
        assert not any(map(is_running, running))
        decisions = await asyncio.gather(*hanging)
        assert time.monotonic() - begin < 10
        assert {decision.failure for decision in decisions} == {"overloaded"}
        assert processes(guard) == []


@pytest.mark.parametrize(("dies", "words"), [(False, "expected weights"), (True, "killed by signal 9")])
async def test_a_guard_that_cannot_be_loaded_is_an_error_at_the_start(dies: bool, words: str) -> None:
    pool = CheckPool(BrokenGuard(dies), 2)
    with pytest.raises(ModelError, match=words):
        pool.start()
    assert pool.process_ids == []


LEFT_ALONE = """
import sys
from pathlib import Path
from tests.guard.pool_guards import ObeyingGuard
from equipoise.guard.check_pool import CheckPool

if __name__ == "__main__":
    pool = CheckPool(ObeyingGuard(Path(sys.argv[1])), 2)
    pool.start()
    print(*pool.process_ids, flush=True)
    if sys.argv[2] == "waits":
        sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["ends", "waits"])
async def test_no_worker_outlives_its_gateway(tmp_path: Path, end: str) -> None:
    script = tmp_path / "alone.py"
    script.write_text(LEFT_ALONE)
    command = [sys.executable, str(script), str(tmp_path), end]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment()) as gateway:
        assert gateway.stdout is not None
        workers = [int(word) for word in gateway.stdout.readline().split()]
        assert len(workers) == 2
        if end == "waits":
            # Also one that is killed, and cannot end anything.
            gateway.kill()
        assert gateway.wait(SOON) == (0 if end == "ends" else -signal.SIGKILL)
    await until(lambda: not any(map(is_running, workers)))
