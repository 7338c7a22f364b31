"""The number of requests at once: halved once for each busy round, one more for each round of replies."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.engine.adaptive_limit import AdaptiveLimit
from equipoise.audit.engine.session import CollectionProgress
from equipoise.served_models.failures import classify


def test_a_busy_round_halves_the_limit_once() -> None:
    limit = AdaptiveLimit(16)
    requests = [limit.begin() for _ in range(16)]
    for request in requests:
        limit.shrink(request)
    assert limit.limit == 8
    limit.shrink(limit.begin())
    assert (limit.limit, limit.lowest) == (4, 4)


def test_each_round_of_replies_adds_one_up_to_the_most() -> None:
    limit = AdaptiveLimit(8)
    limit.shrink(limit.begin())
    assert limit.limit == 4
    replies = 0
    while limit.limit == 4:
        limit.grow()
        replies += 1
    assert replies in (4, 5)
    for _ in range(200):
        limit.grow()
    assert limit.limit == 8


@given(st.integers(1, 40), st.lists(st.booleans(), max_size=60))
def test_the_limit_stays_between_one_and_the_most(most: int, replies: list[bool]) -> None:
    limit = AdaptiveLimit(most)
    for good in replies:
        request = limit.begin()
        if good:
            limit.grow()
        else:
            limit.shrink(request)
        assert 1 <= limit.limit <= most


def test_no_more_than_the_limit_are_under_way_and_nobody_waits_for_ever() -> None:
    limit, under_way, most_seen = AdaptiveLimit(4), 0, []

    async def ask(number: int) -> None:
        nonlocal under_way
        async with limit:
            request = limit.begin()
            under_way += 1
            most_seen.append((under_way, limit.limit))
            await anyio.lowlevel.checkpoint()
            if number == 3:
                limit.shrink(request)
            else:
                limit.grow()
            under_way -= 1

    async def ask_all() -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for number in range(40):
                    group.start_soon(ask, number)

    anyio.run(ask_all)
    assert len(most_seen) == 40
    assert max(count for count, _ in most_seen) == 4
    assert limit.lowest == 2


class ServerError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


@pytest.mark.parametrize(("status", "busy"), [(429, True), (503, True), (529, True), (500, False), (408, False)])
def test_only_a_busy_server_slows_an_audit_down(status: int, busy: bool) -> None:
    failure = classify(ServerError(status))
    assert failure.again
    assert failure.is_busy is busy


def test_throughput_counts_the_replies_of_this_call() -> None:
    assert CollectionProgress(done=100, total=200, failed=0, seconds=5.0, sent=10).throughput == 2.0
    assert CollectionProgress(done=100, total=200, failed=0, seconds=0.0).throughput is None
