"""What the pages of the countermeasure benchmarks say of their results."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from equipoise.countermeasures.cross_check import CrossCheck
from equipoise.stats.proportions import wilson
from tests.models.tiny_plain import PlainTorchModel

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    # Benchmarks import each other as scripts of one folder do; other tests must not find them afterwards.
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_replies_that_all_agree_are_worth_their_clusters_from_the_counts_alone(benchmark: Any) -> None:
    ends = benchmark("page").ends
    stored = {"k": 0, "n": 60, "rate": 0.0, "clusters": 4, "low": 0.0, "high": 0.06}
    assert ends(stored) == wilson(0.0, 4)
    assert ends({**stored, "k": 3, "rate": 0.05}) == (0.0, 0.06)
    assert ends({**stored, "clusters": 60}) == (0.0, 0.06)
    assert ends({**stored, "n": 0, "rate": None, "clusters": 0}) == (0.0, 0.06)


def test_the_caption_counts_prompts_for_all_rows(benchmark: Any) -> None:
    def row(n: int, seeds: int) -> dict[str, Any]:
        return {"cells": {"plain_safe": {"exact": {"n": n, "seeds": [1.0] * seeds}}}}

    rows = {"none": row(100, 1), "noise": row(150, 3), "crop": row(300, 3), "vote": row(150, 3)}
    prompts = benchmark("countermeasures_page")._prompts
    assert (
        prompts(rows) == "100 prompts of each cell (50 for randomised rows, with 3 seeds; 100 for crop, with 3 seeds)"
    )
    assert prompts({"none": row(100, 1)}) == "100 prompts of each cell"


def test_the_weights_of_a_second_opinion_are_those_of_both_models(benchmark: Any) -> None:
    class Weighed(PlainTorchModel):
        @property
        def model(self) -> Any:
            return self.network

    weights = benchmark("countermeasures").weights
    one = Weighed()
    assert weights(CrossCheck(one, Weighed(1), -4.0, "second")) == 2 * weights(one) > 0


def test_a_rendered_page_names_the_machine_of_the_measurement(benchmark: Any) -> None:
    measured_with = benchmark("time_to_refusal").measured_with
    assert measured_with([{"run": {"threads": 3, "torch": "1.2.3"}}] * 2) == "3 threads, torch 1.2.3"
    assert measured_with([{"run": {"threads": 1, "torch": "1.2.3"}}, {}]) == (
        "1 thread, torch 1.2.3 and threads and torch not kept"
    )
