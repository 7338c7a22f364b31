"""The clock of a fit goes on where a killed process left it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.audit.frontier import work_clock
from equipoise.audit.frontier.work_clock import WorkClock
from tests.audit.frontier.test_time_budget import Clock


def test_seconds_are_carried_over_and_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stands = Clock()
    monkeypatch.setattr(work_clock, "time", stands)
    file = tmp_path / "seconds.json"
    first = WorkClock(file)
    stands.now += 0.5
    first.tick()
    assert not file.exists(), "not written for every step"
    stands.now += 2
    first.tick()
    assert json.loads(file.read_text()) == {"seconds": 2.5}
    second = WorkClock(file)
    stands.now += 4
    assert second.seconds == pytest.approx(6.5)
