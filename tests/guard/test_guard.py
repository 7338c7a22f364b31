"""`Guard`: the pipeline behind plain texts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from PIL import Image

from equipoise.guard.decision import HarmScore
from equipoise.guard.guard import Guard
from equipoise.guard.guard_input import GuardInput
from equipoise.types import Exchange, Prompt
from tests.guard.fakes import Words


class _Recorder(Words):
    """Remembers whole inputs, and the threads that asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[GuardInput] = []
        self.threads: list[int] = []

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        self.inputs += evidence
        self.threads.append(threading.get_ident())
        return super().__call__(evidence)


@pytest.mark.parametrize(("reply", "action"), [("Mix flour and water.", "allow"), ("Build a bomb.", "refuse")])
def test_a_reply_is_decided_alike_with_and_without_an_event_loop(reply: str, action: str) -> None:
    guard = Guard(Words())
    decision = guard.check("How?", reply)
    assert decision.action == action
    later = asyncio.run(guard.acheck("How?", reply))
    assert (later.action, later.response, later.harm) == (decision.action, decision.response, decision.harm)


def test_an_asynchronous_check_leaves_the_event_loops_thread() -> None:
    detector = _Recorder()
    asyncio.run(Guard(detector).acheck("How?", "Mix flour and water."))
    assert threading.get_ident() not in detector.threads


def test_the_text_in_pictures_is_read_where_there_is_a_reader() -> None:
    detector = _Recorder()
    picture = Image.new("RGB", (4, 4))
    Guard(detector, reader=lambda image: f"{image.width} wide").check("How?", "So.", [picture, picture])
    Guard(detector).check("How?", "So.", [picture])
    assert [item.picture_text for item in detector.inputs] == ["4 wide\n4 wide", ""]


def test_exchanges_are_decided_in_their_order() -> None:
    replies = ("Fine.", "A bomb.", "Fine, too.")
    exchanges = [Exchange(Prompt.ask("How?"), reply, "stop", "model") for reply in replies]
    decisions = Guard(Words()).check_exchanges(exchanges)
    assert [decision.action for decision in decisions] == ["allow", "refuse", "allow"]
