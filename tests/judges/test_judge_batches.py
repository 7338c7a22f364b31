"""Judging in batches over workers: verdicts in order, whoever judges; a reply that ends its workers is unscored."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from equipoise.errors import PictureError, UsageError
from equipoise.execution import InProcessExecutor, ShardStore, SpawnExecutor
from equipoise.judges.judge_batches import BatchJudging, JudgeTask, JudgingBatch, judging_here
from equipoise.types import Exchange, Prompt, Verdict


@dataclass(frozen=True)
class LengthJudge:
    """Gives the length of a reply as the reason; may end its process."""

    identity: str = "length-1"
    killer: str = ""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        if self.killer and any(self.killer in exchange.reply for exchange in exchanges):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Verdict("none", reasons=(str(len(exchange.reply)),)) for exchange in exchanges]


def exchange(batch: Sequence[str], number: int) -> Exchange:
    return Exchange(Prompt.ask("What?"), batch[number], "stop", "m")


def batches(*texts: Sequence[str]) -> list[JudgingBatch]:
    return [JudgingBatch(tuple(batch), partial(exchange, batch), str(at)) for at, batch in enumerate(texts)]


TEXTS = (["a", "bb"], [], ["ccc"], [], ["a", "bb"], ["dddd", "e"])
LENGTHS = [["1", "2"], [], ["3"], [], ["1", "2"], ["4", "1"]]


def lengths(verdicts: Sequence[Sequence[Verdict]]) -> list[list[str]]:
    return [[verdict.reasons[0] for verdict in batch] for batch in verdicts]


def test_verdicts_come_in_the_order_of_the_batches() -> None:
    with judging_here(LengthJudge()) as judging:
        assert (judging.name, judging.identity, judging.description) == ("LengthJudge", "length-1", None)
        assert lengths(list(judging.verdicts(batches(*TEXTS)))) == LENGTHS


def test_a_reply_that_ends_its_workers_is_unscored_and_the_order_stays(tmp_path: Path) -> None:
    texts = [*TEXTS, ["fff", "poison", "g"], ["hh"]]
    notes: list[str] = []
    store = ShardStore(tmp_path / "shards")
    with SpawnExecutor(2).open(JudgeTask(partial(LengthJudge, killer="poison")), store, notes.append) as group:
        judging = BatchJudging.of(group, store)
        verdicts = list(judging.verdicts(batches(*texts)))
    assert lengths(verdicts[:6]) == LENGTHS
    first, poison, last = verdicts[6]
    assert (first.reasons, last.reasons) == (("3",), ("1",))
    assert poison.unscored is not None
    assert "got 2 lost workers (killed by signal 9; killed by signal 9)" in poison.unscored
    assert lengths(verdicts[7:]) == [["2"]]
    assert len(notes) == 2
    assert store.keys() == [], "what was handed out is removed"


def test_results_in_shards_are_not_made_again(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with InProcessExecutor().open(JudgeTask(LengthJudge), store) as group:
        verdicts = BatchJudging.of(group, store).verdicts(batches(*TEXTS))
        next(verdicts)
    left = store.keys()
    assert left
    judge = LengthJudge(killer="a")
    with InProcessExecutor().open(JudgeTask(lambda: judge), store) as group:
        again = BatchJudging.of(group, store).verdicts(batches(TEXTS[0]))
        assert lengths(list(again)) == [["1", "2"]], "read from the shard: the judge would end this process"


def test_a_judge_without_identity_and_a_picture_that_cannot_be_read_are_errors() -> None:
    with pytest.raises(UsageError, match="identity hash"), judging_here(lambda exchanges: []):
        raise AssertionError("not reached")

    def unreadable(number: int) -> Exchange:
        raise PictureError("expected a readable picture, got none; try another")

    with judging_here(LengthJudge()) as judging, pytest.raises(PictureError):
        list(judging.verdicts([JudgingBatch(("a",), unreadable)]))
