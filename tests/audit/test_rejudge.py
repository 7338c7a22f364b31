from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.records import AuditRun
from equipoise.audit.rejudge import BATCH, rejudge
from equipoise.audit.summary import summarise
from equipoise.errors import ModelError, UsageError
from equipoise.types import Exchange, Verdict
from tests.audit.factories import JUDGE, MODEL, Row, rows, write_run


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


def test_a_judge_that_labels_nothing_leaves_the_earlier_one_and_is_asked_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())
    with pytest.raises(ModelError, match=r"got no label \(the server was away\)"):
        rejudge(run.folder, StrictJudge(unscored=True))
    assert AuditRun.open(run.folder).judge == JUDGE
    assert summarise(AuditRun.open(run.folder)).variants["plain"].rates.needless_refusal.n == 4
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

    with pytest.raises(ModelError, match="out of ideas"):
        rejudge(run.folder, BrokenJudge())
    assert AuditRun.open(run.folder).judge == JUDGE
    verdicts = [case.verdict for case in AuditRun.open(run.folder).cases("strict-1")]
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


def test_a_judge_that_labels_some_takes_over_and_says_how_many_it_left(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", content())

    class HalfJudge(StrictJudge):
        def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            verdicts = super().__call__(exchanges)
            return [Verdict(None, unscored="busy"), *verdicts[1:]]

    outcome = rejudge(run.folder, HalfJudge())
    assert (outcome.judged, outcome.unscored, outcome.reason) == (4, 1, "busy")
    assert AuditRun.open(run.folder).judge == "strict-1"
    assert (rejudge(run.folder, StrictJudge()).judged, summarise(run).variants["plain"].rates.needless_refusal.n) == (
        1,
        4,
    )


def test_a_lost_picture_is_one_unscored_reply(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [Row("p", colour=(1, 2, 3)), *rows(3, "q")])
    next((run.folder / "pictures").iterdir()).unlink()
    outcome = rejudge(run.folder, StrictJudge(), with_pictures=True)
    assert (outcome.judged, outcome.unscored) == (4, 1)
    verdicts = [case.verdict for case in AuditRun.open(run.folder).cases()]
    assert "got no file" in str(verdicts[0].unscored)
    assert [verdict.refusal for verdict in verdicts[1:]] == ["full"] * 3


@pytest.mark.parametrize("name", ["replies.jsonl", "verdicts.jsonl"])
def test_a_run_whose_last_line_a_kill_cut_is_judged_without_it(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", rows(5, "a"))
    path = run.folder / name
    path.write_bytes(path.read_bytes()[:-20])
    assert not summarise(run).complete
    outcome = rejudge(run.folder, StrictJudge())
    assert (outcome.judged, outcome.skipped) == ((4, 1) if name.startswith("replies") else (5, 0))
    assert summarise(AuditRun.open(run.folder)).complete is (name == "verdicts.jsonl")


def test_two_partial_rejudges_leave_the_first_judge_and_both_go_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows(2 * BATCH, "a"))
    for identity in ("one", "two"):
        with pytest.raises(KeyboardInterrupt):
            rejudge(run.folder, StrictJudge(identity=identity, stop_after=1))
    assert AuditRun.open(run.folder).judge == JUDGE
    for identity in ("one", "two"):
        assert rejudge(run.folder, StrictJudge(identity=identity)).reused == BATCH
        assert AuditRun.open(run.folder).judge == identity


def test_a_run_of_an_older_version_is_judged_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rows(5, "a"))
    recipe = json.loads((run.folder / "run.json").read_text())
    kept = {name: recipe[name] for name in ("format", "suites", "variants")}
    (run.folder / "run.json").write_text(json.dumps({**kept, "model": MODEL, "judge": {"identity": JUDGE}}))
    later = {
        "replies.jsonl": ("detail", "permanent", "accepted", "input_tokens", "output_tokens", "seconds", "reasoning"),
        "verdicts.jsonl": ("kind", "review_refusal", "review_harm", "harm_probability"),
    }
    for name, fields in later.items():
        lines = []
        for line in (run.folder / name).read_text().splitlines():
            values = {key: value for key, value in json.loads(line).items() if key not in (*fields, "check")}
            lines.append(json.dumps({**values, "check": fingerprint(values)[:16]}) + "\n")
        (run.folder / name).write_text("".join(lines))
    assert summarise(AuditRun.open(run.folder)).variants["plain"].rates.needless_refusal.n == 5
    assert rejudge(run.folder, StrictJudge()).judged == 5
    assert summarise(AuditRun.open(run.folder)).variants["plain"].rates.needless_refusal.k == 5
