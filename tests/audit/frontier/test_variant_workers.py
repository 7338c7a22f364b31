"""The audits of a frontier over workers: the same rows, and workers with other weights are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.audit.frontier.document import Frontier
from equipoise.audit.frontier.run import run_frontier
from equipoise.audit.frontier.variant_workers import MitigatedModelLoader, VariantWorkers
from equipoise.audit.workers.audit_workers import SHARDS
from equipoise.execution.executors import Executor, InProcessExecutor, SpawnExecutor
from equipoise.models.base import OpenModel
from tests.audit.frontier.planted import own, planted_config
from tests.audit.frontier.samples import PlantedJudge
from tests.steering import planted


def load_planted(name: str) -> OpenModel:
    """The model of the frontier, whatever its name."""
    return planted.planted_model()


def load_judge(_: OpenModel) -> PlantedJudge:
    return PlantedJudge()


def on(executor: Executor) -> VariantWorkers:
    return VariantWorkers(executor, load_planted, load_judge, note=lambda _: None)


@pytest.fixture(autouse=True)
def own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.steering.prompt_sets.own_prompts", own)


def test_two_workers_give_the_rows_of_one_process(tmp_path: Path) -> None:
    alone = Frontier.read(run_frontier(planted_config(tmp_path / "alone", "surgical")))
    config = planted_config(tmp_path / "two", "surgical", workers=on(SpawnExecutor(2)))
    together = Frontier.read(run_frontier(config))
    for one, other in zip(alone.rows, together.rows, strict=True):
        assert one.name == other.name
        assert one.needless == other.needless
        assert one.harmful == other.harmful
    assert not list((tmp_path / "two").rglob(SHARDS)), "what workers did is taken into the runs"


def test_a_finished_frontier_asks_no_worker_again(tmp_path: Path) -> None:
    config = planted_config(tmp_path / "run", "surgical")
    run_frontier(config)

    def no_load(name: str) -> OpenModel:
        raise AssertionError(name)

    workers = replace(on(InProcessExecutor()), load=no_load)
    run_frontier(replace(config, workers=workers))


def test_workers_with_other_weights_answer_nothing(tmp_path: Path) -> None:
    config = planted_config(tmp_path / "run", "prompt:balanced")
    run_frontier(replace(config, variants=()))

    def other(name: str) -> OpenModel:
        return planted.planted_model(seed=5)

    folder = run_frontier(replace(config, workers=replace(on(InProcessExecutor()), load=other)))
    row = next(row for row in Frontier.read(folder).rows if row.name == "prompt:balanced")
    assert row.needless.rate is None
    replies = (folder / "runs" / "prompt-balanced" / "replies.jsonl").read_text()
    assert "expected revision" in replies, "for the weights, and for no other reason"


def test_a_loader_puts_countermeasures_around_the_weights() -> None:
    plain = MitigatedModelLoader(load_planted, "planted", ())()
    prompted = MitigatedModelLoader(load_planted, "planted", ("prompt:balanced",))()
    assert plain.revision == planted.planted_model().revision
    assert prompted.revision != plain.revision
