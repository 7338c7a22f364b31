"""`/ready` asks the upstream, the detector and the record's writer, and is cheap to ask."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import FAILURES, CheckUnavailable
from equipoise.guard.decision import HarmScore
from equipoise.guard.gateway import gateway_state, readiness
from equipoise.guard.gateway.upstream import Upstream
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline
from tests.guard.fakes import Raises, Words
from tests.guard.gateway.upstreams import Gateway, gateway, says

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ready(served: Gateway) -> list[str]:
    response = await served.client.get("/ready")
    problems: list[str] = response.json()["problems"]
    assert (response.status_code == 200) is (problems == [])
    return problems


async def test_the_detector_is_asked_with_a_new_text_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH", 0.0)
    detector = Words()
    async with gateway(tmp_path, says("hi"), detector=detector) as served:
        assert [await ready(served) for _ in range(3)] == [[], [], []]
        assert len(set(detector.texts)) == 3


async def test_a_detector_that_fails_is_a_red_light_and_heals(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi"), detector=Raises()) as served:
        assert await ready(served) == ["checks fail: RuntimeError: out of order"]
        served.service.guard = AsyncGuard(GuardPipeline(Words()))
        assert await ready(served) == []


class Hangs(Words):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        self.go.wait(20)
        return super().__call__(evidence)


async def test_a_detector_that_hangs_is_a_red_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SECONDS", 0.05)
    detector = Hangs()
    async with gateway(tmp_path, says("hi"), detector=detector) as served:
        # On a busy machine the upstream and the record may be late, too.
        assert "checks give no answer within 0.05 seconds" in await ready(served)
        detector.go.set()
        monkeypatch.setattr(readiness, "SECONDS", 60.0)
        assert await ready(served) == []


async def test_a_reader_of_pictures_that_hangs_is_a_red_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    async with gateway(tmp_path, says("hi"), reader=lambda image: "") as served:
        readings = served.service.readings
        for _ in range(FAILURES):
            with pytest.raises(CheckUnavailable):
                await readings.run(lambda: go.wait(20), 0.01)
        assert await ready(served) == ["readings of pictures hang: the breaker is open"]
        monkeypatch.setattr(gateway_state, "STUCK", 0.0)
        response = await served.client.get("/health")
        assert response.status_code == 503
        assert response.json()["problems"][0].startswith("a picture has been read for")
        go.set()


async def test_a_full_queue_is_busy_and_not_broken(tmp_path: Path) -> None:
    async with gateway(tmp_path, says("hi")) as served:
        served.service.guard = AsyncGuard(GuardPipeline(Words()), waiting=0)
        assert await ready(served) == []


@pytest.mark.parametrize(("status", "key", "is_ready"), [(500, None, False), (401, None, True), (401, "k", False)])
async def test_the_upstream_is_asked_with_the_gateways_key(
    tmp_path: Path, status: int, key: str | None, is_ready: bool
) -> None:
    async with gateway(tmp_path, says("hi")) as served:
        served.fake.models = httpx.Response(status, json={})
        served.service.upstream = Upstream(served.service.upstream.client, key)
        assert (await ready(served) == []) is is_ready
        assert served.fake.heard[-1].get("authorization") == (f"Bearer {key}" if key else None)


async def test_an_upstream_that_is_gone_is_a_red_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(tmp_path, says("hi")) as served:

        async def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        monkeypatch.setattr(served.fake, "handle_async_request", refuse)
        assert await ready(served) == ["the upstream cannot be reached"]


async def test_the_writer_is_asked_and_no_entry_stays_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH", 0.0)
    async with gateway(tmp_path, says("hi")) as served:
        await served.chat()
        for _ in range(3):
            assert await ready(served) == []
        assert len(served.entries()) == 1
        assert served.record.verify().problem is None
        with sqlite3.connect(tmp_path / "record.db") as other:
            assert other.execute("SELECT written FROM equipoise_probe").fetchall() == [(3,)]
        other.close()


async def test_a_locked_record_is_a_red_light_until_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "SECONDS", 0.05)
    async with gateway(tmp_path, says("hi")) as served:
        other = sqlite3.connect(tmp_path / "record.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert any(problem.startswith("the record cannot be written") for problem in await ready(served))
        other.execute("ROLLBACK")
        other.close()
        monkeypatch.setattr(readiness, "SECONDS", 60.0)
        assert await ready(served) == []
        assert (await served.chat()).status_code == 200


async def test_a_record_whose_file_is_gone_is_a_red_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH", 0.0)
    async with gateway(tmp_path, says("hi")) as served:
        assert await ready(served) == []
        for file in tmp_path.glob("record.db*"):
            file.unlink()
        (problem,) = await ready(served)
        assert "gone" in problem
        response = await served.chat()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "record_failed")


async def test_many_who_ask_at_once_share_one_answer(tmp_path: Path) -> None:
    detector = Words()
    async with gateway(tmp_path, says("hi"), detector=detector) as served:
        answers: list[Any] = await asyncio.gather(*(ready(served) for _ in range(50)))
        assert answers == [[]] * 50
        assert len(detector.texts) == 1
