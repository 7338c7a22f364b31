"""Replies and activations over workers: the same bits as in one process, also after a kill; nothing is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.errors import ModelError
from equipoise.execution import InProcessExecutor, Parcel, ShardStore
from equipoise.models.text_model import TextModel
from equipoise.steering.capture_workers import CaptureOrder, CaptureTask, CaptureWorkers, ScoreOrder
from equipoise.steering.find import DirectionSearch, FindResult, FindSettings, find_direction
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from tests.steering.planted import prompts, sorry_judge

SETTINGS = FindSettings(reply_tokens=4)
SETS = prompts("harmful", 60, "attack"), prompts("harmless", 60), prompts("pseudo", 40, "shoot")


class StoppingTask(CaptureTask):
    """Counts batches, and stops after a few."""

    most = 1000
    done = 0

    def run(self, state: Any, parcel: Parcel) -> Parcel:
        if StoppingTask.done == StoppingTask.most:
            raise KeyboardInterrupt
        StoppingTask.done += 1
        return super().run(state, parcel)


def task(model: TextModel) -> StoppingTask:
    StoppingTask.done = 0
    return StoppingTask(lambda: model, sorry_judge)


def searched(model: TextModel, steerable: Steerable, folder: Path) -> FindResult:
    """The result over workers whose shards lie in a folder."""
    store = ShardStore(folder)
    with InProcessExecutor().open(task(model), store) as group:
        search = DirectionSearch(
            steerable, SETTINGS, judge=sorry_judge, workers=CaptureWorkers(group, store, judge="sorry")
        )
        return find_direction(search, *SETS)


def test_the_result_is_that_of_one_process_to_the_last_bit(
    planted: TextModel, planted_steerable: Steerable, planted_result: FindResult, tmp_path: Path
) -> None:
    result = searched(planted, planted_steerable, tmp_path)
    assert result.direction is not None
    assert planted_result.direction is not None
    assert torch.equal(result.direction.vector, planted_result.direction.vector)
    assert result.to_dict() == planted_result.to_dict()
    assert not list(tmp_path.glob("*/*")), "shards are removed when their stage is complete"


def test_batches_that_a_stopped_run_has_done_are_not_done_again(
    planted: TextModel, planted_steerable: Steerable, planted_result: FindResult, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    searched(planted, planted_steerable, tmp_path)
    all_batches = StoppingTask.done
    monkeypatch.setattr(StoppingTask, "most", 1)
    with pytest.raises(KeyboardInterrupt):
        searched(planted, planted_steerable, tmp_path)
    monkeypatch.undo()
    assert len(list(tmp_path.glob("*/*"))) == 1
    result = searched(planted, planted_steerable, tmp_path)
    assert StoppingTask.done == all_batches - 1
    assert result.to_dict() == planted_result.to_dict()


def test_a_batch_that_fails_ends_the_search(planted: TextModel, planted_steerable: Steerable, tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with InProcessExecutor().open(task(planted), store) as group:
        workers = CaptureWorkers(group, store, judge="sorry")
        order = CaptureOrder((Prompt.ask("w1 w2"),), (0,), "another revision", 2, 4)
        with pytest.raises(ModelError, match="expected revision another revision"):
            list(workers.sums([order], lambda done: None))
        assert len({order.item("sorry").key, order.item("other").key}) == 2
        rows = workers.replies(
            [CaptureOrder(order.prompts, (0,), planted_steerable.exact_revision, None, 4)], lambda done: None
        )
    assert set(rows[0][0]) == {"tokens", "text", "refused"}


def test_candidates_are_scored_by_workers(planted: TextModel, planted_steerable: Steerable, tmp_path: Path) -> None:
    scored: list[ScoreOrder] = []

    class Recorded(CaptureWorkers):
        def scores(self, orders: Any, progress: Any) -> Any:
            scored.extend(orders)
            return super().scores(orders, progress)

    store = ShardStore(tmp_path)
    with InProcessExecutor().open(task(planted), store) as group:
        search = DirectionSearch(
            planted_steerable, SETTINGS, judge=sorry_judge, workers=Recorded(group, store, judge="sorry")
        )
        result = find_direction(search, *SETS)
    assert len(scored) >= result.counts["scored candidates"] > 1
    assert len({order.item("sorry").key for order in scored}) == len(scored)


def test_a_worker_with_another_number_format_is_refused(
    planted: TextModel, planted_steerable: Steerable, tmp_path: Path
) -> None:
    with InProcessExecutor().open(task(planted), ShardStore(tmp_path)) as group:
        workers = CaptureWorkers(group, ShardStore(tmp_path), judge="sorry")
        revision = planted_steerable.exact_revision.replace("float32", "bfloat16")
        with pytest.raises(ModelError, match="bfloat16, got planted-0 float32 on a worker"):
            workers.replies([CaptureOrder((Prompt.ask("w1 w2"),), (0,), revision, None, 4)], lambda done: None)
