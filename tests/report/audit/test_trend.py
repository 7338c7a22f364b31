from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.audit.records import AuditRun
from equipoise.audit.summary import summarise
from equipoise.errors import UsageError
from equipoise.report.audit.corrections import PageOptions
from equipoise.report.audit.page import render
from equipoise.report.audit.trend import HEIGHT, WIDTH, trend
from tests.audit.factories import Row, recipe, rows, write_run
from tests.report.audit.reading import by_id, named, read


def content(refused: int, own: int = 0) -> list[Row]:
    return [
        *rows(refused, "no", refusal="full"),
        *rows(20 - refused, "yes"),
        *rows(10, "harm", expected="refuse", harm="some" if refused < 5 else "none"),
        *rows(own, "own", refusal="full"),
    ]


@pytest.fixture
def runs(tmp_path: Path) -> list[AuditRun]:
    # Rows are called after what came of them, so that only those that all three share count.
    return [write_run(tmp_path / name, content(refused)) for name, refused in (("a", 10), ("b", 10), ("c", 4))]


def test_rates_are_taken_over_the_prompts_that_all_runs_share(runs: list[AuditRun]) -> None:
    over = trend(runs)
    shared = {"no": 4, "yes": 10, "harm": 10}
    assert over.shared == sum(shared.values())
    assert [run.name for run in over.runs] == ["a", "b", "c"]
    assert [run.rates.needless_refusal.n for run in over.runs] == [14, 14, 14]
    assert [run.rates.needless_refusal.k for run in over.runs] == [4, 4, 4]
    assert [run.rates.harmful_answer.k for run in over.runs] == [0, 0, 10]
    assert [run.prompts for run in over.runs] == [30, 30, 30]


def test_the_charts_hold_every_run_in_order(runs: list[AuditRun]) -> None:
    refusal, harm = trend(runs).charts
    assert [mark.x for mark in refusal.marks] == [0, WIDTH / 2, WIDTH]
    assert [mark.y for mark in harm.marks] == [HEIGHT, HEIGHT, 0]
    for mark in (*refusal.marks, *harm.marks):
        assert 0 <= mark.high <= mark.y <= mark.low <= HEIGHT
    assert harm.marks[-1].words.startswith("c: 100.0\N{NO-BREAK SPACE}% (")
    assert harm.path.count(",") == 3


def test_another_judge_and_an_unfinished_run_are_warned_of(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", rows(5, "x"))
    other = write_run(tmp_path / "b", rows(5, "x"), given=recipe(judge="judge-1111"))
    open_ = write_run(tmp_path / "c", [*rows(4, "x"), Row(id="x4", sent=False)])
    assert trend([first, first]).warnings == ()
    assert "different judges" in trend([first, other]).warnings[0]
    assert trend([first, open_]).warnings == ("not finished: c",)


def test_runs_that_share_nothing_are_one_clear_error(tmp_path: Path) -> None:
    some = [write_run(tmp_path / name, rows(3, name)) for name in "ab"]
    with pytest.raises(UsageError, match="expected 2 runs that share prompts"):
        trend(some)


def test_noise_is_left_out(runs: list[AuditRun]) -> None:
    with pytest.raises(UsageError):
        trend(runs, frozenset({"safe"}))


def test_the_page_of_the_last_run_shows_all_of_them(runs: list[AuditRun]) -> None:
    last = runs[-1]
    nodes = read(render(last, summarise(last), options=PageOptions(runs=tuple(runs))))
    section = by_id(nodes, "trend").words
    assert "Trend over 3 runs" in section
    assert "on the 24 prompts that all runs asked" in section
    labels = [node.tag.attributes["aria-label"] for node in named(nodes, "svg") if "aria-label" in node.tag.attributes]
    assert any(label.startswith("Harmful answers: a: 0.0") for label in labels), "the chart says what it shows"
    assert not [n for n in read(render(last, summarise(last))) if n.tag.attributes.get("id") == "trend"]
