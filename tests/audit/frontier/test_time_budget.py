"""The budget of time over all commands on a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.audit.frontier import work_clock
from equipoise.audit.frontier.time_budget import TimeBudget, guessed_ratio
from equipoise.countermeasures.catalogue import CATALOGUE, example


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands = Clock()
    monkeypatch.setattr(work_clock, "time", stands)
    return stands


def test_seconds_are_those_of_this_and_earlier_commands(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "spent.json"
    first = TimeBudget(file, None)
    clock.now += 30
    first.tick(final=True)
    second = TimeBudget(file, None)
    clock.now += 12
    assert second.seconds == pytest.approx(42)


def test_a_killed_command_counts_up_to_its_last_tick(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "spent.json"
    killed = TimeBudget(file, None)
    clock.now += 5
    killed.tick()
    clock.now += 100
    assert TimeBudget(file, None).seconds == pytest.approx(5)


def test_ticks_are_written_now_and_then(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "spent.json"
    budget = TimeBudget(file, None)
    for _ in range(10):
        clock.now += 0.05
        budget.tick()
    assert not file.exists(), "half a second is no reason to write"
    clock.now += 0.6
    budget.tick()
    assert json.loads(file.read_text())["seconds"] == pytest.approx(1.1)


def test_what_needs_more_than_is_left_falls_short(tmp_path: Path, clock: Clock) -> None:
    budget = TimeBudget(tmp_path / "spent.json", 600.0)
    clock.now += 300
    assert budget.shortfall(299.0) is None
    assert budget.shortfall(301.0) == "budget: needs about 5.0 min, 5.0 min of 10.0 min left"
    clock.now += 1000
    assert budget.shortfall(0.0) is None, "nothing always fits"
    assert budget.shortfall(1.0) == "budget: needs about 0.0 min, 0.0 min of 10.0 min left"


def test_without_a_limit_everything_fits(tmp_path: Path) -> None:
    assert TimeBudget(tmp_path / "spent.json", None).shortfall(1e12) is None


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_countermeasure_has_a_guess_of_at_least_the_plain_model(name: str) -> None:
    assert guessed_ratio([example(name)]) >= 1.0


def test_votes_take_as_long_as_their_copies() -> None:
    assert guessed_ratio(["vote:copies=3"]) < guessed_ratio(["vote:copies=11"])
    assert guessed_ratio(["smooth"]) == 9.0
