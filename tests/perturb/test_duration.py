"""How long a run takes at most: a step and a check are timed and scaled by pixels, pictures and limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.perturb import PerturbConfig, duration
from equipoise.perturb.duration import in_words, most_seconds
from tests.attacks.fakes import photo
from tests.models.tiny_plain import PlainTorchModel

CHECK = 2.0
"""Seconds between two looks at the clock, which a check takes here."""
ENDING = 35 * CHECK
"""What a start without success scores at its end: 7 candidates on 50 questions, of which a step evaluates 10."""
CONFIG = PerturbConfig(models=("plain",), out=Path("out"), steps=50)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is two seconds after the one before."""
    times = iter(range(0, 10**6, 2))
    monkeypatch.setattr(duration.time, "perf_counter", lambda: float(next(times)))


def seconds(config: PerturbConfig, *sizes: tuple[int, int]) -> float:
    return most_seconds(config, sizes, photo(), [PlainTorchModel()])


def test_steps_and_pictures_multiply() -> None:
    one = seconds(CONFIG, (40, 48))
    assert one > 0
    assert seconds(CONFIG, (40, 48), (40, 48)) == 2 * one
    # The scores at the end of a start do not grow with its steps.
    assert seconds(replace(CONFIG, steps=100), (40, 48)) == 2 * one - ENDING
    assert seconds(replace(CONFIG, restarts=3), (40, 48)) == 3 * one


def test_a_check_after_every_ten_steps_is_counted() -> None:
    five, ten = (seconds(replace(CONFIG, steps=steps), (40, 48)) for steps in (5, 10))
    assert 2 * five - ten == CHECK + ENDING


def test_the_timed_step_evaluates_as_many_questions_as_most_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int | None] = []
    attack = RefusalAttack.__call__

    def noting(self: RefusalAttack, *args: Any, **options: Any) -> PerturbationResult:
        timed.append(self.questions_first)
        return attack(self, *args, **options)

    monkeypatch.setattr(RefusalAttack, "__call__", noting)
    assert seconds(CONFIG, (40, 48)) > 0
    assert timed == [None]


def test_larger_pictures_take_longer_and_smaller_ones_count_as_the_timed_one() -> None:
    one = seconds(CONFIG, (40, 48))
    # The steps take twice as long; the five checks are the model's own time.
    assert seconds(CONFIG, (80, 48)) == 2 * one - 5 * CHECK
    assert seconds(CONFIG, (4, 4)) == one


def test_a_limit_holds_for_each_picture_or_for_all_together() -> None:
    limited = replace(CONFIG, max_seconds=3.0)
    one = seconds(limited, (40, 48))
    # A step or a check that has begun when the time is spent is ended.
    assert one == 3.0 + CHECK
    assert seconds(limited, (40, 48), (40, 48)) == 2 * one
    assert seconds(replace(limited, universal=True), (40, 48), (40, 48)) == one


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.2, "1 second"), (1.6, "2 seconds"), (40, "40 seconds"), (420, "7 minutes"), (9000, "2.5 hours")],
)
def test_times_are_in_round_words(value: float, words: str) -> None:
    assert in_words(value) == words
