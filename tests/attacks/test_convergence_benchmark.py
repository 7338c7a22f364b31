"""The attacks of the convergence benchmark: higher levels take all their steps, and older cells stay apart."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from equipoise.attacks.budgets import Budget
from tests.cli.fakes import BrightnessModel

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Benchmarks import each other as scripts of one folder do.
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("convergence_benchmark", FOLDER / "convergence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_an_attack_of_a_higher_level_takes_all_steps_and_keeps_what_is_refused(benchmark: ModuleType) -> None:
    model, picture = BrightnessModel("toy/target"), Image.new("RGB", (8, 8), (124,) * 3)
    settings = {"steps": 40, "questions_per_step": None}
    ended = benchmark.RefusalAttack(Budget("linf", 8 / 255), **settings)(picture, [model], ["What is it?"])
    whole = benchmark.EndlessAttack(Budget("linf", 8 / 255), **settings)(picture, [model], ["What is it?"])
    assert (ended.stopped, whole.stopped, whole.steps) == ("success", "steps", 40)
    assert ended.steps < 40
    assert whole.rate == pytest.approx(benchmark.SHORT)
    restarted = benchmark.EndlessAttack(Budget("linf", 8 / 255), restarts=2, **settings)
    assert restarted(picture, [model], ["What is it?"]).steps == 80


def test_cells_of_the_earlier_setting_are_not_mixed_in(benchmark: ModuleType) -> None:
    old = {"0 own 0": [[False, True]], "0 own 1": [[True, True]], "0 openings 1": [[True, True]]}
    new = {"0 whole_own 1": [[False, True]], "0 whole_openings 1": [[False, False]]}
    entry = {"refused": old | new, "scenes": 1, "rates": [0.5, 0.5], "steps": {"0 own 0": 7, "0 whole_own 1": 100}}
    assert benchmark.share(entry["refused"], 1, benchmark.attacks_of(entry), None) == 1.0
    assert benchmark._steps(entry) == "not kept; ended at its check"
    entry["setting"] = benchmark.ALL_STEPS
    assert benchmark.attacks_of(entry) == ("own", "whole_own", "whole_openings", "whole_restarts", "transfer")
    assert (
        benchmark.share({key: value for key, value in entry["refused"].items() if key in new}, 1, ("own",), None) == 0
    )
    kept = {key: value for key, value in entry["refused"].items() if key != "0 own 1"}
    assert benchmark.share(kept, 1, benchmark.attacks_of(entry), None) == 0.5
    assert benchmark._steps(entry) == "7, 100"
    assert benchmark.Cell("none", 8, "own", 1, 0).key == "0 whole_own 1"
    assert benchmark.Cell("none", 8, "own", 0, 0).key == "0 own 0"
