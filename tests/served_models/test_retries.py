"""Asking again: how often, with which pauses, and what is left when nothing helps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from equipoise.served_models.failures import Failure
from equipoise.served_models.retries import MAX_ATTEMPTS, Unanswered, ask_again, run_in_own_loop

BUSY = Failure("transient", "busy")
AWAY = Failure("unreachable", "away")
WRONG = Failure("broken", "too long")


def scripted(*answers: str | Failure) -> tuple[Callable[[], Awaitable[str | Failure]], list[str | Failure]]:
    """What is answered in turn, and what is left of it."""
    left = list(answers)

    async def ask() -> str | Failure:
        return left.pop(0)

    return ask, left


@pytest.mark.parametrize("before", [(), (BUSY,), (BUSY, AWAY)])
def test_a_reply_ends_the_asking(before: tuple[Failure, ...]) -> None:
    ask, left = scripted(*before, "hello", "never")
    assert asyncio.run(ask_again(ask, seconds=9, pause=0.001)) == "hello"
    assert left == ["never"]


def test_it_ends_after_some_tries_with_the_last_failure() -> None:
    ask, left = scripted(*[BUSY] * (MAX_ATTEMPTS - 1), AWAY, "late")
    assert asyncio.run(ask_again(ask, seconds=9, pause=0.001)) == Unanswered(AWAY)
    assert left == ["late"]
    assert Unanswered(AWAY).is_broken


def test_what_no_second_try_cures_is_sent_once() -> None:
    ask, left = scripted(WRONG, "never")
    assert asyncio.run(ask_again(ask, seconds=9)) == Unanswered(WRONG)
    assert left == ["never"]
    assert not Unanswered(WRONG).is_broken


def test_the_time_holds_for_all_tries_and_pauses() -> None:
    ask, _ = scripted(Failure("transient", "wait", retry_after=60.0), "late")
    assert asyncio.run(ask_again(ask, seconds=0.05)) == Unanswered(Failure("transient", "wait", retry_after=60.0), True)


def test_a_coroutine_runs_to_its_end_also_inside_a_running_loop() -> None:
    async def inner() -> int:
        await asyncio.sleep(0)
        return 3

    async def outer() -> int:
        return run_in_own_loop(inner)

    assert asyncio.run(outer()) == 3
