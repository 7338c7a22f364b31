"""The dispatch of items: nothing lost, nothing doubled, whatever workers do; one line about each that died."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import ModelError, OutputError, UsageError
from equipoise.execution import DispatchLimits, ItemOutcome, Parcel, ShardStore, WorkerGroup, WorkItem
from equipoise.execution.backend import WorkerDeath
from equipoise.execution.dispatch import SetAsideError
from equipoise.execution.worker import WorkerReply
from tests.execution.scripted_backend import ScriptedBackend, echo
from tests.execution.tasks import answers, item, items

KILLED = WorkerDeath("killed by signal 9")


def results(outcomes: list[ItemOutcome]) -> dict[str, bytes]:
    return {outcome.item.name: outcome.result.parts[0] for outcome in outcomes if outcome.result}


@given(st.integers(1, 5), st.integers(0, 12), st.data())
def test_nothing_is_lost_or_doubled_whatever_workers_die(workers: int, count: int, data: st.DataObject) -> None:
    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply | WorkerDeath:
        return KILLED if data.draw(st.booleans()) else echo(worker, key, parcel)

    backend, notes = ScriptedBackend(workers, script), list[str]()
    with WorkerGroup(backend, note=notes.append) as group:
        outcomes = list(group.map(items(count)))
    assert Counter(outcome.item.name for outcome in outcomes) == Counter(entry.name for entry in items(count))
    for outcome in outcomes:
        if outcome.result is None:
            assert isinstance(outcome.error, SetAsideError)
            assert backend.submitted.count(outcome.item.name) == 2
        else:
            assert outcome.result.parts[0] == outcome.item.name.encode()[::-1]
    deaths = sum(len(reasons) for reasons in group.deaths.values())
    aside = sum(outcome.result is None for outcome in outcomes)
    assert len(notes) == deaths - aside, "a line for each death, the last one of an item being its error"
    assert backend.is_closed


def test_items_that_share_a_key_are_one() -> None:
    with WorkerGroup(ScriptedBackend(2)) as group:
        outcomes = list(group.map([*items(3), *items(3)]))
    assert results(outcomes) == answers(["item 0", "item 1", "item 2"])
    assert len(outcomes) == 3


def test_no_more_workers_start_than_there_are_items_and_they_load_once() -> None:
    backend = ScriptedBackend(8)
    with WorkerGroup(backend) as group:
        assert len(list(group.map(items(2)))) == 2
        assert len(list(group.map([item("later")]))) == 1
    assert sorted(backend.started) == ["worker-0", "worker-1"]


def test_items_are_read_as_workers_become_free() -> None:
    read = []

    def source():  # type: ignore[no-untyped-def]
        for entry in items(50):
            read.append(entry.name)
            yield entry

    with WorkerGroup(ScriptedBackend(3)) as group:
        mapped = group.map(source())
        for _ in range(5):
            next(mapped)
        # Those that are done, one at each worker and one in reserve for each.
        assert len(read) <= 5 + 2 * 3 + 3
        assert len(list(mapped)) == 45


def test_an_item_that_ends_its_workers_is_set_aside_with_its_reasons_and_the_rest_goes_on() -> None:
    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply | WorkerDeath:
        return KILLED if parcel.parts[0] == b"kills" else echo(worker, key, parcel)

    notes: list[str] = []
    with WorkerGroup(ScriptedBackend(2, script), note=notes.append) as group:
        outcomes = list(group.map([*items(4), item("kills"), *items(8)[4:]]))
    assert results(outcomes) == answers([entry.name for entry in items(8)])
    (failure,) = [outcome for outcome in outcomes if outcome.error]
    assert str(failure.error) == (
        "expected a result of kills, got 2 lost workers (killed by signal 9; killed by signal 9); "
        "try it alone, without workers"
    )
    assert len(notes) == 1
    assert notes[0].endswith("was lost (killed by signal 9) over kills, which is done again")


def test_an_item_that_hangs_is_ended_and_set_aside() -> None:
    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply | None:
        return None if parcel.parts[0] == b"hangs" else echo(worker, key, parcel)

    backend = ScriptedBackend(2, script)
    with WorkerGroup(backend, limits=DispatchLimits(item_seconds=30)) as group:
        outcomes = list(group.map([item("hangs"), *items(5)]))
    assert results(outcomes) == answers([entry.name for entry in items(5)])
    (failure,) = [outcome for outcome in outcomes if outcome.error]
    assert "2 lost workers (ran longer than 30 s; ran longer than 30 s)" in str(failure.error)
    assert backend.clock == 60


def test_a_rest_too_small_to_move_the_clock_is_not_waited_for_again_and_again() -> None:
    backend = ScriptedBackend(1, lambda *_: None)
    # At this reading of the clock the limit is missed by a rounding error, which addition to the clock loses.
    backend.clock = 0.4
    with WorkerGroup(backend, limits=DispatchLimits(item_seconds=0.1, deaths=1)) as group:
        (failure,) = group.map([item("hangs")])
    assert failure.error is not None
    assert backend.clock < 0.51


def test_an_error_of_an_item_is_its_own() -> None:
    error = UsageError("expected another text, got this; try that")

    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply:
        return WorkerReply(error=error) if parcel.parts[0] == b"item 1" else echo(worker, key, parcel)

    with WorkerGroup(ScriptedBackend(2, script)) as group:
        outcomes = list(group.map(items(3)))
    assert results(outcomes) == answers(["item 0", "item 2"])
    assert [outcome.error for outcome in outcomes if outcome.error] == [error]


def test_an_item_that_cannot_be_packed_is_its_own_error() -> None:
    def unreadable() -> Parcel:
        raise UsageError("expected a file, got none; try another")

    broken = WorkItem(item("broken").key, "broken", unreadable)
    with WorkerGroup(ScriptedBackend(1)) as group:
        for entries in ([broken], [broken, *items(2)], [*items(2), broken]):
            outcomes = list(group.map(entries))
            assert len(outcomes) == len(entries)
            assert [outcome.item.name for outcome in outcomes if outcome.error] == ["broken"]


def test_what_cannot_be_written_ends_the_run() -> None:
    full = OutputError("expected to write x, got 'No space left on device'; try another output folder")
    with (
        pytest.raises(OutputError, match="No space left"),
        WorkerGroup(ScriptedBackend(2, lambda *_: WorkerReply(error=full, is_final=True))) as group,
    ):
        list(group.map(items(5)))


def test_workers_that_die_while_they_load_end_the_run_after_the_third() -> None:
    backend, notes = ScriptedBackend(2, on_start=lambda worker: WorkerDeath("out of memory")), list[str]()
    with pytest.raises(ModelError, match="got 3 that died before they had \\(out of memory\\); try fewer --workers"):
        list(WorkerGroup(backend, note=notes.append).map(items(5)))
    assert len(notes) == 2


def test_a_few_of_many_workers_may_die_while_they_load() -> None:
    unlucky = {f"worker-{number}" for number in range(0, 20, 4)}

    def on_start(worker: str) -> WorkerReply | WorkerDeath:
        if worker in unlucky:
            unlucky.remove(worker)
            return KILLED
        return WorkerReply()

    notes: list[str] = []
    with WorkerGroup(ScriptedBackend(20, on_start=on_start), note=notes.append) as group:
        assert results(list(group.map(items(60)))) == answers([entry.name for entry in items(60)])
    assert len(notes) == 5 - len(unlucky)


def test_damaged_bytes_are_sent_again() -> None:
    tries: Counter[str] = Counter()

    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply:
        tries[key] += 1
        return (
            WorkerReply(damage="other bytes arrived than were sent") if tries[key] == 1 else echo(worker, key, parcel)
        )

    backend = ScriptedBackend(2, script)
    with WorkerGroup(backend) as group:
        assert results(list(group.map(items(3)))) == answers(["item 0", "item 1", "item 2"])
    assert len(backend.started) == 2, "the workers are not to blame"


def test_results_in_the_store_are_not_made_again(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with WorkerGroup(ScriptedBackend(2), store) as group:
        first = list(group.map(items(4)))
    backend = ScriptedBackend(2)
    with WorkerGroup(backend, store) as group:
        again = list(group.map(items(6)))
    assert results(again) == answers([entry.name for entry in items(6)])
    assert sorted(backend.submitted) == ["item 4", "item 5"]
    assert results(first).items() <= results(again).items()


def test_a_worker_that_is_killed_while_it_waits_costs_no_item() -> None:
    notes: list[str] = []
    backend = ScriptedBackend(2)
    with WorkerGroup(backend, note=notes.append) as group:
        list(group.map(items(2)))
        # One of the two gets the next item; the other one is killed meanwhile.
        busy, idle = group._idle
        backend.kill_idle(idle)
        assert results(list(group.map([item("next")]))) == answers(["next"])
        assert results(list(group.map([*items(4), item("last")]))) == answers(
            [*(entry.name for entry in items(4)), "last"]
        )
    assert notes == [f"{idle} was lost (killed by signal 9) while it had nothing to do"]
    assert busy != idle
    assert group.deaths == {}


def test_a_call_that_its_caller_leaves_does_not_answer_the_next_one() -> None:
    def script(worker: str, key: str, parcel: Parcel) -> WorkerReply | None:
        return None if parcel.parts[0] == b"slow" else echo(worker, key, parcel)

    with WorkerGroup(ScriptedBackend(2, script)) as group:
        mapped = group.map([item("slow"), item("quick"), item("more")])
        assert next(mapped).item.name == "quick"
        mapped.close()  # type: ignore[attr-defined]
        assert results(list(group.map(items(3)))) == answers(["item 0", "item 1", "item 2"])
