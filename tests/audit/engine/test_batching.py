import threading
import time
from collections.abc import Sequence
from concurrent.futures import wait

import pytest

from equipoise.audit.engine.batching import Batcher
from equipoise.errors import OutOfMemoryError, UsageError, out_of_memory


class Gate:
    """Doubles numbers; the first batch waits until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.begun = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.open.wait(10)
        return [2 * item for item in items]


def test_what_arrives_while_a_batch_runs_forms_the_next_one() -> None:
    gate = Gate()
    batcher = Batcher(gate, size=4)
    first = batcher.submit(0)
    assert gate.begun.wait(10)
    later = [batcher.submit(number) for number in range(1, 7)]
    gate.open.set()
    assert [first.result(10)] + [future.result(10) for future in later] == [0, 2, 4, 6, 8, 10, 12]
    assert gate.batches == [[0], [1, 2, 3, 4], [5, 6]]
    batcher.close()


def test_a_window_gathers_what_comes_one_after_the_other() -> None:
    batches: list[int] = []
    batcher: Batcher[int, int] = Batcher(lambda items: batches.append(len(items)) or list(items), size=3, window=3600.0)
    futures = []
    for number in range(3):
        futures.append(batcher.submit(number))
        time.sleep(0.01)
    # With a window of an hour, these results can only come because a full batch waits no longer.
    assert [future.result(60) for future in futures] == [0, 1, 2]
    assert batches == [3]
    batcher.close()


def test_only_what_is_alike_shares_a_batch() -> None:
    gate = Gate()
    batcher = Batcher(gate, size=8, alike=lambda item: item % 2)
    batcher.submit(0)
    assert gate.begun.wait(10)
    futures = [batcher.submit(number) for number in (1, 2, 3, 4)]
    gate.open.set()
    wait(futures, 10)
    assert gate.batches == [[0], [1, 3], [2, 4]]
    batcher.close()


def test_one_bad_item_takes_no_others_with_it() -> None:
    def run(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise ValueError("three")
        return list(items)

    batcher = Batcher(run, size=8, window=0.2)
    futures = [batcher.submit(number) for number in range(5)]
    assert [future.result(10) for number, future in enumerate(futures) if number != 3] == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="three"):
        futures[3].result(10)
    batcher.close()


def test_without_splitting_an_item_is_seen_once() -> None:
    answered: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        answered.extend(items)
        raise OSError("full")

    batcher = Batcher(run, size=8, window=0.2, split=False)
    futures = [batcher.submit(number) for number in range(3)]
    for future in futures:
        with pytest.raises(OSError, match="full"):
            future.result(10)
    assert sorted(answered) == [0, 1, 2]
    batcher.close()


@pytest.mark.parametrize("error", [MemoryError("full"), OutOfMemoryError("full")])
def test_a_full_device_halves_the_batch_and_stays_halved(error: Exception) -> None:
    sizes: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 2:
            raise error
        return list(items)

    batcher = Batcher(run, size=8, window=0.2)
    futures = [batcher.submit(number) for number in range(8)]
    assert [future.result(10) for future in futures] == list(range(8))
    assert batcher.size == 2
    assert sizes == [8, 4, 2, 2, 2, 2], "what did not fit is not tried at that size again"
    batcher.close()


def test_an_item_that_fits_in_no_batch_fails_alone() -> None:
    def run(items: Sequence[int]) -> list[int]:
        raise MemoryError("full")

    batcher = Batcher(run, size=4, window=0.1)
    futures = [batcher.submit(number) for number in range(3)]
    for future in futures:
        with pytest.raises(MemoryError):
            future.result(10)
    batcher.close()


def test_too_few_results_are_an_error_for_each() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [], size=4, window=0.1)
    with pytest.raises(ValueError, match="zip"):
        batcher.submit(1).result(10)
    batcher.close()


def test_a_cancelled_item_is_left_out() -> None:
    gate = Gate()
    batcher = Batcher(gate, size=4)
    batcher.submit(0)
    assert gate.begun.wait(10)
    gone, kept = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    gate.open.set()
    assert kept.result(10) == 4
    assert gate.batches == [[0], [2]]
    batcher.close()


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: list(items), size=4, window=30.0)
    future = batcher.submit(1)
    batcher.close()
    assert future.result(0) == 1
    with pytest.raises(UsageError, match="closed"):
        batcher.submit(2)
    with pytest.raises(UsageError, match="at least 1"):
        Batcher(lambda items: list(items), size=0)


def test_out_of_memory_is_told_by_name() -> None:
    torch = pytest.importorskip("torch")
    assert out_of_memory(torch.OutOfMemoryError("x"))
    assert not out_of_memory(RuntimeError("x"))
