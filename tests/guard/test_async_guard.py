"""Off the event loop a check may wait, hang or be one too many: then it has failed, and the fail mode decides."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from equipoise.guard import bounded_executor as module
from equipoise.guard.async_guard import AsyncGuard
from equipoise.guard.bounded_executor import FAILURES
from equipoise.guard.decision import GuardDecision, HarmScore
from equipoise.guard.detector.folder import read, write
from equipoise.guard.detector.network import HarmNetwork
from equipoise.guard.detector.template import Template
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import FAIL_MODE, GuardPipeline
from equipoise.guard.policy import Policy, Rail
from tests.guard.fakes import Words
from tests.guard.tiny_models import encoder, tokenizer

HARMFUL = GuardInput("a bomb", "How?")


class Waits(Words):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        self.go.wait(10)
        return super().__call__(evidence)


@pytest.fixture
def waits() -> Iterator[Waits]:
    detector = Waits()
    yield detector
    detector.go.set()


def test_a_check_off_the_loop_decides_as_on_it() -> None:
    async def go() -> list[GuardDecision]:
        worker = AsyncGuard(GuardPipeline(Words()))
        policy = Policy(input=Rail(action="refuse"))
        decisions = [
            await worker.check(HARMFUL, policy),
            await worker.check(GuardInput("fine"), policy),
            await worker.check(GuardInput("build a bomb"), policy, policy.input),
            await worker.check(GuardInput("build a bomb"), Policy(), Policy().input),
        ]
        worker.close()
        return decisions

    decisions = asyncio.run(go())
    assert [decision.action for decision in decisions] == ["refuse", "allow", "refuse", "allow"]
    assert decisions[-1].decided_by == "policy"


@pytest.mark.parametrize(("fail", "action"), [("closed", "withhold"), ("refuse", "refuse"), ("open", "allow")])
def test_a_check_that_hangs_has_failed(waits: Waits, fail: str, action: str) -> None:
    async def go() -> tuple[GuardDecision, float]:
        worker = AsyncGuard(GuardPipeline(waits), seconds=0.05)
        begin = asyncio.get_running_loop().time()
        policy = Policy(output=Rail(fail=fail))  # type: ignore[arg-type]
        decision = await worker.check(HARMFUL, policy)
        taken = asyncio.get_running_loop().time() - begin
        worker.close()
        return decision, taken

    decision, taken = asyncio.run(go())
    assert (decision.action, decision.decided_by) == (action, FAIL_MODE)
    assert "within 0.05 seconds" in decision.why
    assert taken < 5


def test_one_check_too_many_has_failed_and_the_others_have_not(waits: Waits) -> None:
    async def go() -> list[GuardDecision]:
        worker = AsyncGuard(GuardPipeline(waits), waiting=3)
        checks = [asyncio.create_task(worker.check(HARMFUL, Policy())) for _ in range(5)]
        await asyncio.sleep(0.05)
        waits.go.set()
        decisions = await asyncio.gather(*checks)
        decisions.append(await worker.check(HARMFUL, Policy()))
        worker.close()
        return decisions

    by = [decision.decided_by for decision in asyncio.run(go())]
    assert by == ["words"] * 3 + [FAIL_MODE] * 2 + ["words"], "and the queue is free again"


def test_the_breaker_opens_fails_at_once_and_closes_again(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        worker = AsyncGuard(GuardPipeline(waits), seconds=0.02)
        for _ in range(FAILURES):
            assert not worker.executor.is_open
            await worker.check(HARMFUL, Policy())
        assert worker.executor.is_open
        assert "breaker" in (await worker.check(HARMFUL, Policy())).why
        waits.go.set()
        await asyncio.sleep(0.05)
        monkeypatch.setattr(module, "REST", 0.0)
        assert not worker.executor.is_open
        assert (await worker.check(HARMFUL, Policy())).decided_by == "words"
        monkeypatch.undo()
        assert not worker.executor.is_open, "a check that ends closes it"
        worker.close()

    asyncio.run(go())


def test_observing_changes_nothing_where_a_check_fails(waits: Waits) -> None:
    async def go() -> GuardDecision:
        worker = AsyncGuard(GuardPipeline(waits), seconds=0.02)
        decision = await worker.check(HARMFUL, Policy(mode="observe"))
        worker.close()
        return decision

    decision = asyncio.run(go())
    assert (decision.action, decision.response, decision.observed) == ("allow", "a bomb", "withhold")


def test_checks_that_share_a_pass_compute_each_reply_once_and_decide_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = AutoModel.from_pretrained(encoder(tmp_path / "base"), add_pooling_layer=False)
    torch.manual_seed(0)
    write(tmp_path / "made", HarmNetwork(base, "mean"), tokenizer(), Template("exchange", 8, 8, 16, 12))
    detector, alone = read(tmp_path / "made"), read(tmp_path / "made")
    passes: list[int] = []
    inside = detector.network.windows
    monkeypatch.setattr(detector.network, "windows", lambda ids, mask: passes.append(len(ids)) or inside(ids, mask))
    words = [
        "take",
        "the",
        "wire",
        "and",
        "mix",
        "it",
        "please",
        "now",
        "sorry",
        "i",
        "cannot",
        "help",
        "with",
        "that",
        "soup",
        "salt",
    ]
    items = [GuardInput(f"{first} {second}", "how") for first in words[:4] for second in words[4:9]]

    async def go() -> list[GuardDecision]:
        guard = AsyncGuard(GuardPipeline(detector), together=4)
        decisions = await asyncio.gather(*(guard.check(item, Policy()) for item in items))
        guard.close()
        return decisions

    decisions = asyncio.run(go())
    assert sum(passes) == len(items), "no reply was computed twice"
    assert max(passes) == 4
    expected = GuardPipeline(alone)(items)
    assert [decision.action for decision in decisions] == [decision.action for decision in expected]
    assert [decision.harm for decision in decisions] == pytest.approx([one.harm for one in expected], abs=1e-5)
