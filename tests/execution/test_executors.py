"""The executors do the same: same bytes in this process, over processes and over Ray; kills, errors, full disks."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from equipoise.errors import MissingExtraError, ModelError, OutputError, UsageError
from equipoise.execution import (
    DispatchLimits,
    Executor,
    InProcessExecutor,
    ItemOutcome,
    Parcel,
    RayExecutor,
    ShardStore,
    SpawnExecutor,
    choose_executor,
)
from equipoise.execution.executors import thread_variables
from equipoise.execution.spawn import SpawnBackend
from tests.child_process import environment
from tests.execution.tasks import EchoTask, UnloadableTask, answers, item, items

HAS_RAY = importlib.util.find_spec("ray") is not None
NEEDS_RAY = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed")
EXECUTORS = [
    pytest.param("in process", id="in process"),
    pytest.param("spawn", id="spawn"),
    # A warning of the library at its own end is not ours.
    pytest.param("ray", id="ray", marks=[NEEDS_RAY, pytest.mark.filterwarnings("default")]),
]
OTHER_PROCESSES = EXECUTORS[1:]
KILLS = 6
"""Workers killed in the test; `benchmarks/worker_failures.py` kills twenty."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster of two cores for all tests of Ray: starting one takes half a minute."""
    if HAS_RAY:
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        ray.shutdown()
    else:
        yield


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Executor:
    limits = DispatchLimits()
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return RayExecutor(2, limits=limits)
    return SpawnExecutor(2, limits=limits) if request.param == "spawn" else InProcessExecutor(limits=limits)


def results(outcomes: list[ItemOutcome]) -> dict[str, bytes]:
    return {outcome.item.name: outcome.result.parts[0] for outcome in outcomes if outcome.result}


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_all_executors_give_the_same_bytes_load_once_and_keep_results_in_shards(
    executor: Executor, tmp_path: Path
) -> None:
    store, log = ShardStore(tmp_path / "shards"), tmp_path / "log"
    with executor.open(EchoTask(log), store) as group:
        outcomes = list(group.map([*items(4), item("fails"), *items(8)]))
        more = list(group.map([item("later")]))
    assert results(outcomes) == answers([entry.name for entry in items(8)])
    assert [str(outcome.error) for outcome in outcomes if outcome.error] == [
        "expected another text, got 'fails'; try 'item 1'"
    ]
    assert results(more) == answers(["later"])
    names = [*results(outcomes), *results(more)]
    assert dict(store.results()) == {item(name).key: Parcel.of(text) for name, text in answers(names).items()}
    lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    loads = [process for process, text in lines if text == "load"]
    assert len(loads) == len(set(loads)) <= 2


@pytest.mark.parametrize("executor", OTHER_PROCESSES, indirect=True)
def test_an_item_that_kills_every_worker_is_set_aside_and_the_rest_is_done(executor: Executor, tmp_path: Path) -> None:
    notes: list[str] = []
    with executor.open(EchoTask(), ShardStore(tmp_path / "shards"), notes.append) as group:
        outcomes = list(group.map([item("kills"), *items(5)]))
    assert results(outcomes) == answers([entry.name for entry in items(5)])
    (failure,) = [outcome for outcome in outcomes if outcome.error]
    assert str(failure.error).startswith("expected a result of kills, got 2 lost workers (")
    assert len(notes) == 1


@pytest.mark.parametrize("executor", OTHER_PROCESSES, indirect=True)
def test_an_error_while_loading_and_a_mistake_in_the_program_end_the_run(executor: Executor) -> None:
    with pytest.raises(ModelError, match="expected a model, got nothing"), executor.open(UnloadableTask()) as group:
        list(group.map(items(2)))
    with pytest.raises(Exception, match="a mistake in the program"), executor.open(EchoTask()) as group:
        list(group.map([item("is wrong"), *items(2)]))


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_a_full_disk_is_one_line_and_what_was_written_stays(executor: Executor, tmp_path: Path) -> None:
    store = ShardStore(tmp_path / "shards")
    with pytest.raises(OutputError) as caught, executor.open(EchoTask(), store) as group:
        list(group.map([*items(3), item("disk is full"), *items(9)]))
    assert "\n" not in str(caught.value)
    with executor.open(EchoTask(), store) as group:
        assert results(list(group.map(items(9)))) == answers([entry.name for entry in items(9)])


def test_workers_killed_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    chance, log, notes = random.Random(7), tmp_path / "log", list[str]()
    store = ShardStore(tmp_path / "shards")
    outcomes: list[ItemOutcome] = []
    kills = 0
    with SpawnExecutor(2).open(EchoTask(log, seconds=0.002), store, notes.append) as group:
        backend = group._backend
        assert isinstance(backend, SpawnBackend)
        for outcome in group.map(items(40)):
            outcomes.append(outcome)
            # An item that was hit once is left alone: two deaths set it aside, as is said of it.
            fresh = [worker for worker, underway in group.underway.items() if underway.item.key not in group.deaths]
            if kills < KILLS and fresh and len(outcomes) % 4 == 0:
                process = backend.process_id(chance.choice(fresh))
                if process is not None:
                    os.kill(process, signal.SIGKILL)
                    kills += 1
    assert kills == KILLS
    assert results(outcomes) == answers([entry.name for entry in items(40)])
    assert len(outcomes) == len(store.keys()) == 40
    assert len(notes) <= kills
    assert all("was lost (killed by signal 9)" in line for line in notes)


DRIVER = """
import sys
from pathlib import Path
from equipoise.execution import ShardStore, SpawnExecutor
from tests.execution.tasks import EchoTask, items

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    store = ShardStore(folder / "shards")
    with SpawnExecutor(2).open(EchoTask(folder / "log", seconds=0.05), store) as group:
        for outcome in group.map(items(30)):
            print(outcome.item.name, flush=True)
"""


def test_the_same_command_goes_on_after_the_driver_was_killed_and_no_worker_outlives_it(tmp_path: Path) -> None:
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    words = [sys.executable, str(program), str(tmp_path)]
    for moment in (1, 9, 4):
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()) as driver:
            assert driver.stdout is not None
            for _ in range(moment):
                driver.stdout.readline()
            driver.kill()
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True)
    assert sorted(done.stdout.split("\n")) == sorted(["", *(entry.name for entry in items(30))])
    store = ShardStore(tmp_path / "shards")
    assert {parcel.parts[0] for _, parcel in store.results()} == set(answers([e.name for e in items(30)]).values())
    # Each driver had two workers, and each of these did at most the item that it had when its driver was killed.
    done_items = [
        line.split(maxsplit=1)[1] for line in (tmp_path / "log").read_text().splitlines() if "load" not in line
    ]
    assert len(done_items) <= 30 + 2 * 3


def test_workers_that_die_while_they_load_end_the_run_with_one_line() -> None:
    with SpawnExecutor(1).open(UnloadableTask(dies=True)) as group, pytest.raises(ModelError, match="died before"):
        list(group.map(items(1)))


def test_a_hung_worker_is_ended_after_its_time() -> None:
    notes: list[str] = []
    with SpawnExecutor(1, limits=DispatchLimits(item_seconds=2.0)).open(EchoTask(), note=notes.append) as group:
        outcomes = list(group.map([item("hangs"), item("item 0")]))
    assert results(outcomes) == answers(["item 0"])
    assert "ran longer than 2 s; ran longer than 2 s" in str(next(o.error for o in outcomes if o.error))
    assert len(notes) == 1


def test_options_that_do_not_go_together_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_executor(None) is None
    spawned = choose_executor(3, item_seconds=5)
    assert isinstance(spawned, SpawnExecutor)
    assert (spawned.workers, spawned.limits.item_seconds) == (3, 5)
    for options in (
        {"workers": 0},
        {"workers": None, "item_seconds": 5.0},
        {"workers": 2, "gpus_per_worker": 0.5},
        {"workers": 2, "item_seconds": -1.0},
    ):
        with pytest.raises(UsageError, match=r"^expected .*, got .*; try "):
            choose_executor(**options)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'equipoise\[ray\]'"):
        choose_executor(2, "auto")


def test_threads_are_shared_out_and_the_users_number_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.execution.executors.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_variables(3) == {"OMP_NUM_THREADS": "2"}
    assert thread_variables(20) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert thread_variables(3) == {"OMP_NUM_THREADS": "5"}


@NEEDS_RAY
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("cluster")
def test_more_actors_than_the_cluster_holds_are_an_error_instead_of_waiting_for_ever() -> None:
    with pytest.raises(UsageError, match="expected at most 2 workers of 1 cores and 0 GPUs"):
        RayExecutor(3).open(EchoTask())
    with pytest.raises(UsageError, match="expected at most 0 workers"):
        RayExecutor(1, gpus=0.5).open(EchoTask())


def test_without_ray_nothing_of_it_is_imported() -> None:
    program = (
        "import sys\n"
        "from equipoise.execution import InProcessExecutor, SpawnExecutor, choose_executor\n"
        "from tests.execution.tasks import EchoTask, items\n"
        "choose_executor(2)\n"
        "list(InProcessExecutor().open(EchoTask()).map(items(3)))\n"
        "import equipoise.perturb.runner, equipoise.cli.main\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'ray'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.split() == ["[]"]
