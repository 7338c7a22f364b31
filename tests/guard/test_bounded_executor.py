"""One piece at a time on each lane, fair turns, and nothing is done for those who have gone."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from equipoise.guard.bounded_executor import CLIENT, BoundedExecutor, CheckUnavailable
from equipoise.guard.checkpoints import Abandoned, LaneLost, checkpoint, current_piece

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def start(lane: BoundedExecutor, work: object, client: str, seconds: float = 20.0) -> asyncio.Task[object]:
    async def run() -> object:
        CLIENT.set(client)
        return await lane.run(work, seconds)  # type: ignore[arg-type]

    return asyncio.create_task(run())


async def test_long_work_lets_short_work_of_anybody_pass() -> None:
    lane, order, began = BoundedExecutor("checks"), list[str](), threading.Event()
    go = threading.Event()

    def long() -> None:
        began.set()
        go.wait(10)
        for _ in range(5):
            time.sleep(0.01)
            checkpoint()
        order.append("long")

    first = start(lane, long, "a")
    await asyncio.to_thread(began.wait, 5)
    others = [start(lane, lambda name=name: order.append(name), name) for name in ("a", "b", "c")]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, *others)
    assert order[-1] == "long"
    assert set(order) == {"a", "b", "c", "long"}
    lane.close()


async def test_clients_take_turns() -> None:
    lane, order, go = BoundedExecutor("checks"), list[str](), threading.Event()
    blocked = start(lane, lambda: go.wait(10), "x")
    await asyncio.sleep(0)
    many = [start(lane, lambda: order.append("many"), "many") for _ in range(20)]
    few = [start(lane, lambda: order.append("few"), "few") for _ in range(2)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(blocked, *many, *few)
    assert order[:4].count("few") == 2
    lane.close()


async def test_work_whose_waiter_has_gone_is_not_begun_or_ends_at_a_checkpoint() -> None:
    lane, done, began, go = BoundedExecutor("checks"), list[str](), threading.Event(), threading.Event()

    def long() -> None:
        began.set()
        go.wait(10)
        checkpoint()
        done.append("long")

    running = start(lane, long, "a")
    await asyncio.to_thread(began.wait, 5)
    cancelled = start(lane, lambda: done.append("cancelled"), "a")
    late = start(lane, lambda: done.append("late"), "a", 0.01)
    await asyncio.sleep(0)
    for task in (running, cancelled):
        task.cancel()
    with pytest.raises(CheckUnavailable) as why:
        await late
    assert why.value.kind == "late"
    go.set()
    await start(lane, lambda: done.append("next"), "b")
    assert done == ["next"]
    lane.close()


async def test_one_client_cannot_take_the_whole_queue() -> None:
    lane, go = BoundedExecutor("checks", waiting=8), threading.Event()
    mine = [start(lane, lambda: go.wait(10), "a") for _ in range(9)]
    await asyncio.sleep(0)
    others = [start(lane, lambda: "fine", "b") for _ in range(2)]
    one_more = start(lane, lambda: "fine", "c")
    await asyncio.sleep(0)
    go.set()
    kinds = [
        error.kind
        for error in await asyncio.gather(*mine, return_exceptions=True)
        if isinstance(error, CheckUnavailable)
    ]
    assert kinds == ["crowded"] * 3
    assert await asyncio.gather(*others) == ["fine", "fine"]
    with pytest.raises(CheckUnavailable) as why:
        await one_more
    assert why.value.kind == "overloaded"
    lane.close()


async def test_errors_of_any_kind_reach_who_waits() -> None:
    def leave() -> None:
        raise SystemExit(3)

    def late() -> None:
        raise TimeoutError("its own")

    lane = BoundedExecutor("checks")
    with pytest.raises(RuntimeError, match="SystemExit"):
        await lane.run(leave)
    with pytest.raises(TimeoutError, match="its own"):
        await lane.run(late)
    assert await lane.run(lambda: 1) == 1
    lane.close()


def lane_of_piece() -> int | None:
    piece = current_piece()
    assert piece is not None
    return piece.lane


async def test_each_open_lane_computes_one_piece() -> None:
    executor, met = BoundedExecutor("checks", lanes=()), threading.Barrier(2, timeout=10)
    lock, most, now = threading.Lock(), [0], [0]

    def meet() -> int | None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        met.wait()
        with lock:
            now[0] -= 1
        return lane_of_piece()

    pieces = [start(executor, meet, name) for name in "abcd"]
    await asyncio.sleep(0.02)
    assert most == [0], "nothing begins without a lane"
    for number in (0, 1):
        executor.open_lane(number)
    assert sorted(await asyncio.gather(*pieces)) == [0, 0, 1, 1]  # type: ignore[type-var]
    assert most == [2]
    executor.close()


async def test_a_piece_that_paused_goes_on_on_its_lane_or_is_lost_with_it() -> None:
    executor, go, enough = BoundedExecutor("checks", lanes=(7,)), threading.Event(), threading.Event()

    def long(began: threading.Event) -> set[int | None]:
        lanes = {lane_of_piece()}
        began.set()
        while not enough.is_set():
            time.sleep(0.002)
            checkpoint()
            lanes.add(lane_of_piece())
        return lanes

    async def begin(client: str) -> asyncio.Task[object]:
        began = threading.Event()
        task = start(executor, lambda: long(began), client)
        assert await asyncio.to_thread(began.wait, 5)
        return task

    kept = await begin("a")
    executor.open_lane(8)
    lost = await begin("b")
    both = [start(executor, lambda: go.wait(10), name) for name in "cd"]
    # They have the turns of both lanes, so that the long ones have paused.
    while sum(piece.paused for piece in executor._turns.ready) < 2:
        await asyncio.sleep(0.005)
    executor.close_lane(8)
    with pytest.raises(LaneLost):
        await lost
    go.set()
    await asyncio.gather(*both)
    # The piece on the other lane, and what comes later, is not concerned.
    assert await start(executor, lane_of_piece, "e") == 7
    enough.set()
    assert await kept == {7}
    executor.close()


class Sharing:
    """An executor whose pieces share a preparation, and what it was called with."""

    def __init__(self, together: int = 4, error: BaseException | None = None) -> None:
        self.calls: list[list[str]] = []
        self.order: list[str] = []
        self.error = error
        self.executor = BoundedExecutor("checks", prepare=self.prepare, together=together)
        self.go = threading.Event()

    def prepare(self, materials: list[str]) -> None:
        self.calls.append(materials)
        if self.error is not None:
            raise self.error

    def ask(self, name: str, client: str, *, shared: bool = True) -> asyncio.Task[str]:
        def work() -> str:
            self.order.append(name)
            return name

        async def run() -> str:
            CLIENT.set(client)
            return await self.executor.run(work, 20, material=name if shared else None)

        return asyncio.create_task(run())

    async def block(self) -> asyncio.Task[object]:
        blocked = start(self.executor, lambda: self.go.wait(10), "x")
        await asyncio.sleep(0)
        return blocked


async def test_who_waits_shares_and_who_is_alone_does_not_wait() -> None:
    sharing = Sharing()
    assert await sharing.ask("alone", "a") == "alone"
    assert sharing.calls == []
    blocked = await sharing.block()
    pieces = [sharing.ask(f"a{number}", "a") for number in range(5)]
    pieces += [sharing.ask("b0", "b"), sharing.ask("own", "c", shared=False), sharing.ask("d0", "d")]
    await asyncio.sleep(0)
    sharing.go.set()
    await asyncio.gather(blocked, *pieces)
    # Of each client one, then the second of each: who sends more gains nothing.
    assert sharing.calls[0] == ["a0", "b0", "d0", "a1"]
    assert [call for call in sharing.calls if len(call) < 2 or len(call) > 4] == []
    shared = [name for call in sharing.calls for name in call]
    assert len(shared) == len(set(shared)), "each is prepared once"
    assert set(sharing.order[1:5]) == {"a0", "b0", "own", "d0"}, "turns are those without sharing"
    sharing.executor.close()


@pytest.mark.parametrize("error", [RuntimeError("one bad text"), MemoryError()])
async def test_a_preparation_that_fails_harms_nobody(error: BaseException) -> None:
    sharing = Sharing(error=error)
    blocked = await sharing.block()
    pieces = [sharing.ask(name, name) for name in "abc"]
    await asyncio.sleep(0)
    sharing.go.set()
    await blocked
    assert await asyncio.gather(*pieces) == ["a", "b", "c"]
    assert sharing.calls == [["a", "b", "c"]]
    sharing.executor.close()


async def test_who_leaves_is_not_prepared_and_takes_nobody_along() -> None:
    sharing = Sharing(error=Abandoned())
    blocked = await sharing.block()
    pieces = [sharing.ask(name, name) for name in "abcd"]
    await asyncio.sleep(0)
    pieces[1].cancel()
    await asyncio.sleep(0)
    sharing.go.set()
    await blocked
    # The first one is ended in the middle of the preparation, as if its client had left there.
    with pytest.raises(RuntimeError, match="Abandoned"):
        await pieces[0]
    assert await asyncio.gather(*pieces[2:]) == ["c", "d"]
    assert sharing.calls == [["a", "c", "d"]]
    sharing.executor.close()
