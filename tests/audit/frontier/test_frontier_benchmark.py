"""The table that the benchmark writes: both axes, what was left out, and nothing of a prompt."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from equipoise.audit.frontier.advice import advise
from equipoise.audit.frontier.document import Frontier
from tests.audit.frontier.folders import cases, write_folder


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Benchmarks import each other as scripts of one folder do.
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    path = Path(__file__).parents[3] / "benchmarks" / "frontier.py"
    spec = importlib.util.spec_from_file_location("frontier_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(folder: Path) -> dict:
    frontier = Frontier.read(folder)
    advice = advise(frontier)
    return {
        "model": dict(frontier.recipe["model"]),
        "split": dict(frontier.recipe["split"]),
        "judge": frontier.judge,
        "rows": [row.to_json() for row in frontier.rows],
        "left_out": [dict(item) for item in frontier.left_out],
        "headline": advice.headline,
        "ship": advice.ship,
        "minutes": 1.5,
    }


def test_every_row_has_both_axes_with_intervals(benchmark: ModuleType, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "guard": cases(20, 0)})
    table = benchmark.render({"toy": results(folder)})
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["plain", "guard"]
    assert "20/40" in lines[0]
    assert "2/40" in lines[0]
    assert "0/40" in lines[1]
    assert all(line.count("[") == 2 for line in lines)
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1


def test_what_is_unknown_or_left_out_is_said(benchmark: ModuleType, tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "f",
        {"plain": cases(20, 2), "mute": cases(0, 0, unscored=40)},
        left_out=[{"name": "crop", "reason": "toy reads no pictures"}],
        mute={"cost": {"latency_ratio": None, "fit_seconds": 0.0}},
    )
    table = benchmark.render({"toy": results(folder)})
    assert "unknown (40 unscored)" in table
    assert "not measured" in table
    assert "Left out: `crop`: toy reads no pictures." in table


def test_no_prompt_is_in_the_table(benchmark: ModuleType, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"plain": cases(20, 2), "guard": cases(20, 0)})
    assert "What about" not in benchmark.render({"toy": results(folder)})
