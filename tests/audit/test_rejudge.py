from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.records import AuditRun
from equipoise.audit.rejudge import BATCH, rejudge
from equipoise.audit.summary import summarise
from equipoise.errors import UsageError
from equipoise.types import Exchange, Verdict
from tests.audit.factories import JUDGE, Row, rows, write_run


@dataclass
class StrictJudge:
    """Calls everything a refusal; may stop after some replies, or leave some unscored."""

    identity: str = "strict-1"
    unscored: bool = False
    stop_after: int | None = None
    batches: list[Sequence[Exchange]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {"name": "strict judge", "identity": self.identity, "members": [], "notes": []}

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(exchanges)
        if self.unscored:
            return [Verdict(None, unscored="the server was away")] * len(exchanges)
        return [Verdict("full", harm="none") for _ in exchanges]

    @property
    def read(self) -> int:
        return sum(map(len, self.batches))


def content() -> list[Row]:
    return [
        *rows(3, "a-"),
        Row("pictured", colour=(1, 2, 3)),
        Row("lost", error="HTTP 400: no"),
        Row("not sent", sent=False),
        Row("no picture", problem="picture x is missing"),
    ]


def test_the_new_verdicts_report_and_the_old_ones_are_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    before = (run.folder / "verdicts.jsonl").read_bytes()
    judge = StrictJudge()
    outcome = rejudge(run.folder, judge, command="equipoise rejudge run")
    assert (outcome.judged, outcome.reused, outcome.skipped) == (4, 0, 2)
    again = AuditRun.open(run.folder)
    assert again.judge == "strict-1"
    assert summarise(again).variants["plain"].rates.needless_refusal.k == 4
    assert (run.folder / "verdicts.jsonl").read_bytes().startswith(before)
    assert sum(case.verdict.refused is False for case in again.cases(JUDGE)) == 4
    assert [judge.identity for judge in summarise(again).judges] == ["strict-1", JUDGE]
    assert "strict judge strict-1" in again.judge_line
    assert "verdicts of toy judge" in again.judge_line
    (change,) = again.judge_changes().rows()
    assert change.command == "equipoise rejudge run"


def test_a_run_that_was_judged_once_says_so_in_one_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    assert run.judge_line == f"toy judge {JUDGE}"
    assert not (run.folder / "judges.jsonl").exists()


def test_going_back_to_a_judge_reads_nothing_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    rejudge(run.folder, StrictJudge())
    first = StrictJudge(identity=JUDGE)
    outcome = rejudge(run.folder, first)
    assert (outcome.judged, outcome.reused, first.read) == (0, 4, 0)
    assert AuditRun.open(run.folder).judge == JUDGE
    assert [item["identity"] for item in AuditRun.open(run.folder).judge_descriptions] == [JUDGE, "strict-1"]


def test_a_stopped_rejudge_leaves_the_earlier_judge_and_goes_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows(BATCH + 5, "a-"))
    with pytest.raises(KeyboardInterrupt):
        rejudge(run.folder, StrictJudge(stop_after=1))
    assert AuditRun.open(run.folder).judge == JUDGE
    judge = StrictJudge()
    outcome = rejudge(run.folder, judge)
    assert (outcome.judged, outcome.reused, judge.read) == (5, BATCH, 5)
    assert AuditRun.open(run.folder).judge == "strict-1"


def test_what_the_judge_left_unscored_is_judged_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    rejudge(run.folder, StrictJudge(unscored=True))
    assert summarise(AuditRun.open(run.folder)).variants["plain"].rates.needless_refusal.n == 0
    rejudge(run.folder, StrictJudge())
    assert summarise(AuditRun.open(run.folder)).variants["plain"].rates.needless_refusal.n == 4


@pytest.mark.parametrize("with_pictures", [False, True])
def test_the_judge_gets_the_stored_reply_and_pictures_if_asked_for(tmp_path: Path, with_pictures: bool) -> None:
    run = write_run(tmp_path / "run", [Row("p", colour=(1, 2, 3), reply="A blue square.")])
    judge = StrictJudge()
    rejudge(run.folder, judge, with_pictures=with_pictures)
    ((exchange,),) = judge.batches
    assert exchange.reply == "A blue square."
    assert [image.getpixel((0, 0)) for image in exchange.prompt.pictures] == ([(1, 2, 3)] if with_pictures else [])


def test_a_broken_judge_breaks_no_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())

    class BrokenJudge(StrictJudge):
        def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            raise RuntimeError("out of ideas")

    rejudge(run.folder, BrokenJudge())
    verdicts = [case.verdict for case in AuditRun.open(run.folder).cases()]
    assert sum("out of ideas" in str(verdict.unscored) for verdict in verdicts) == 4


def test_no_run_and_no_reply_are_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder of an audit"):
        rejudge(tmp_path, StrictJudge())
    run = write_run(tmp_path / "run", [Row("a", sent=False)])
    with pytest.raises(UsageError, match="with replies"):
        rejudge(run.folder, StrictJudge())


def test_an_edited_choice_of_judge_is_one_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    rejudge(run.folder, StrictJudge())
    path = run.folder / "judges.jsonl"
    path.write_text(path.read_text().replace("strict-1", "strict-2"))
    with pytest.raises(UsageError, match="as it was written"):
        _ = AuditRun.open(run.folder).judge
