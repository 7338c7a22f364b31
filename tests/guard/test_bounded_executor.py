"""One piece at a time, fair turns, and nothing is done for those who have gone."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from equipoise.guard.bounded_executor import CLIENT, BoundedExecutor, CheckUnavailable
from equipoise.guard.checkpoints import checkpoint

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
