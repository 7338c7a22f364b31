"""The convergence benchmark: higher levels take all their steps, and the worst attack counts."""

from __future__ import annotations

import importlib.util
import json
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


def test_the_worst_attack_up_to_a_level_counts_for_each_picture(benchmark: ModuleType) -> None:
    refused = {
        "0 own 0": [[True, True], [True, False]],
        "0 own 1": [[False, True], [False, False]],
        "1 own 0": [[False, False], [False, False]],
        "1 own 1": [[True, False], [False, False]],
        "1 transfer jpeg-8 001-own-0": [[True, True], [True, True]],
    }
    assert benchmark.share(refused, 2, ("own",), 0) == 3 / 8
    # A later level that does worse takes nothing back.
    assert benchmark.share(refused, 2, ("own",), 1) == 4 / 8
    assert benchmark.share(refused, 2, benchmark.ATTACKS, None) == 7 / 8
    assert [benchmark.settled(refused, scene) for scene in range(3)] == [False, True, False]


def test_a_level_counts_when_every_picture_has_been_through_it(benchmark: ModuleType) -> None:
    refused = {"0 own 0": [[True, True]], "1 own 0": [[False, False]], "2 own 0": [[True, False]]}
    entry = {"refused": refused, "scenes": 3}
    assert benchmark.rates_of(entry) == [0.5]
    assert not benchmark.stands_still(benchmark.rates_of(entry))
    refused["1 own 1"] = [[True, False]]
    assert benchmark.rates_of(entry) == [0.5]
    refused["2 own 1"] = [[False, False]]
    # The first picture is wholly refused already; of the third the earlier attack was the worse one.
    assert benchmark.rates_of(entry) == [0.5, 0.667]
    assert not benchmark.is_complete(refused, 3, "openings", 1)
    refused |= {"1 own 2": [[True, False]], "2 own 2": [[True, False]]}
    assert benchmark.stands_still(benchmark.rates_of(entry))
    assert benchmark.rates_of({"refused": {"0 own 0": [[True]]}, "scenes": 1}) == [1.0]
    assert benchmark.rates_of({"refused": {}, "scenes": 1}) == []


def test_levels_that_nobody_attacked_are_no_columns(benchmark: ModuleType) -> None:
    # The openings got everything refused, so that the own attack went no further than its first level.
    refused = {"0 own 0": [[True, False]], "0 openings 0": [[True, True]]}
    assert benchmark.rates_of({"refused": refused, "scenes": 1}) == [0.5]
    # A further attack that was made with more steps counts for fewer.
    assert benchmark.is_complete({"0 own 0": [[False]], "0 openings 3": [[False]]}, 1, "openings", 2)
    assert not benchmark.is_complete({"0 own 0": [[False]], "0 openings 1": [[False]]}, 1, "openings", 2)


def test_a_picture_that_is_wholly_refused_is_attacked_no_further(benchmark: ModuleType) -> None:
    measurement = benchmark.Measurement.__new__(benchmark.Measurement)
    measurement.levels = benchmark.LEVELS
    entry = {"refused": {"0 own 0": [[True, True]]}}
    # Without a model and an album an attack would fail.
    measurement.cell(entry, None, None, benchmark.Cell("jpeg", 8, "own", 1, 0))
    assert list(entry["refused"]) == ["0 own 0"]
    with pytest.raises(AttributeError):
        measurement.cell({"refused": {"0 own 0": [[True, False]]}}, None, None, benchmark.Cell("jpeg", 8, "own", 1, 0))


def test_runs_over_different_rows_keep_what_the_other_writes(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "convergence.json")
    monkeypatch.setattr(benchmark, "SAVED", tmp_path / "out")
    crop, jpeg = benchmark.entry_of("crop", 8), benchmark.entry_of("jpeg", 8)
    for entry in (crop, jpeg):
        entry |= {"scenes": 1}
        entry["refused"]["0 own 0"] = [[entry is crop]]
        benchmark.save(entry)
    assert list(json.loads((tmp_path / "convergence.json").read_text())) == ["jpeg at 8/255", "crop at 8/255"]
    assert benchmark.entry_of("crop", 8) == crop
    assert benchmark.entry_of("crop", 16)["refused"] == {}
