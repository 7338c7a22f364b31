"""A gateway whose checks run in processes answers as one without them, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.async_guard import AsyncGuard
from tests.guard.gateway.test_leaving import ENDS
from tests.guard.gateway.upstreams import Gateway, delta, gateway, message, pieces, whole
from tests.guard.pool_guards import ObeyingGuard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def echoes(body: dict[str, Any]) -> httpx.Response:
    text = body["messages"][0]["content"]
    return pieces(delta(text), *ENDS) if body.get("stream") else whole(message(text))


@asynccontextmanager
async def served_by(folder: Path, workers: int, seconds: float = 30.0) -> AsyncIterator[Gateway]:
    async with gateway(folder, echoes) as served:
        served.service.guard.close()
        served.service.guard = await asyncio.to_thread(
            AsyncGuard.in_workers, ObeyingGuard(folder), workers, seconds=seconds
        )
        served.service.__post_init__()
        yield served


async def value(served: Gateway, metric: str) -> float:
    text = (await served.client.get("/metrics")).text
    (number,) = re.findall(rf"^{metric} (\S+)$", text, re.MULTILINE)
    return float(number)


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_those_without_workers(tmp_path: Path, stream: bool) -> None:
    texts = ["fine", "a bomb in it", "fine again", "raise", ""]
    bodies = []
    for number, workers in enumerate((0, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        if workers:
            async with served_by(folder, workers) as served:
                answers = [await served.chat(text, stream=stream) for text in texts]
                assert await value(served, "equipoise_check_workers_ready") == 2
        else:
            detector = ObeyingGuard(folder)()
            async with gateway(folder, echoes, detector=detector.detector, detoxifiers=detector.detoxifiers) as served:
                answers = [await served.chat(text, stream=stream) for text in texts]
                assert await value(served, "equipoise_check_workers_ready") == 0
        words = [re.sub(r"chatcmpl-\w+", "id", answer.text) for answer in answers]
        bodies.append([(answer.status_code, text) for answer, text in zip(answers, words, strict=True)])
    assert bodies[0] == bodies[1]
    assert {status for status, _ in bodies[0]} == {200, 503}


@pytest.mark.parametrize("seed", [0, 1])
async def test_workers_that_are_killed_at_random_cost_no_wrong_answer(tmp_path: Path, seed: int) -> None:
    draws = random.Random(seed)
    async with served_by(tmp_path, 2) as served:
        pool = served.service.guard.pool
        assert pool is not None

        async def kill() -> None:
            for _ in range(4):
                await asyncio.sleep(draws.uniform(0.05, 0.4))
                if running := pool.process_ids:
                    os.kill(draws.choice(running), signal.SIGKILL)

        async def ask(number: int) -> int:
            await asyncio.sleep(draws.uniform(0, 1.5))
            text = f"a bomb {number}x" if number % 3 == 0 else f"fine {number}x"
            answer = await served.chat(text, stream=number % 2 == 0)
            if answer.status_code == 200:
                assert f"{number}x" in answer.text
                assert "bomb" not in answer.text
                assert "content_filter" not in answer.text
            else:
                assert answer.json()["error"]["code"] in ("check_failed", "check_timeout", "overloaded")
                assert answer.headers["retry-after"]
            return answer.status_code

        killing = asyncio.create_task(kill())
        statuses = await asyncio.gather(*(ask(number) for number in range(120)))
        await killing
        assert set(statuses) <= {200, 503, 504}
        assert statuses.count(200) > 100
        end = time.monotonic() + 60
        while pool.ready < 2:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        assert (await served.client.get("/ready")).status_code == 200
        assert (await served.client.get("/health")).status_code == 200
        assert await value(served, "equipoise_check_worker_deaths") >= 2
        assert served.record.verify().problem is None
        assert len(served.entries()) == len(statuses)


async def test_a_gateway_is_not_ready_while_no_worker_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.guard.gateway.readiness.SECONDS", 0.3)
    monkeypatch.setattr("equipoise.guard.check_pool.RESTS", (3.0, 3.0))
    async with served_by(tmp_path, 1) as served:
        assert (await served.client.get("/ready")).status_code == 200
        pool = served.service.guard.pool
        assert pool is not None
        os.kill(pool.process_ids[0], signal.SIGKILL)
        while pool.ready:
            await asyncio.sleep(0.01)
        await asyncio.sleep(2.1)
        not_ready = await served.client.get("/ready")
        assert (not_ready.status_code, not_ready.json()["problems"]) == (
            503,
            ["checks give no answer within 0.3 seconds"],
        )
        # A request waits for the worker, instead of failing at once.
        assert (await served.chat("fine")).status_code == 200
        assert (await served.client.get("/ready")).status_code == 200
