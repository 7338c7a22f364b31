"""Whole numbers among an attack's settings."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.attacks.budgets import Budget
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.solvers import Momentum
from equipoise.errors import UsageError


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"steps": True},
        {"draws": 0},
        {"restarts": 1.5},
        {"questions_per_step": 0},
        {"questions_first": -1},
        {"settle": -1},
        {"check_every": 2.5},
        {"target_rate": 2},
        {"enough_rate": 0},
    ],
)
def test_a_setting_that_no_attack_can_have_is_named(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(UsageError, match=rf"expected (a )?{name} .*, got {setting[name]!r}; try [\d.]+$"):
        RefusalAttack(**setting)


def test_a_solver_checks_its_own_settings() -> None:
    with pytest.raises(UsageError, match=r"expected steps .*, got 2\.5; try 100$"):
        Momentum(Budget("linf", 8 / 255), steps=2.5)  # type: ignore[arg-type]


def test_settings_without_a_number_pass() -> None:
    attack = RefusalAttack(questions_per_step=None, questions_first=None, settle=None, enough_rate=None, check_every=0)
    assert attack.settle is None
