"""Recovery by depth from a run folder: which cases count, where refusals begin, and the way into summary and page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.audit.records import AuditRun
from equipoise.audit.recovery.curve_file import CurvePoint, RefusalCurve, read_curve, write_curve
from equipoise.audit.recovery.depths import recovery_of, refusal_position
from equipoise.audit.summary import AuditSummary, summarise
from equipoise.errors import UsageError
from equipoise.report.audit.page import render
from tests.audit.factories import Row, balanced, rows, write_run

REFUSED = "I'm sorry, but I can't help with that."


def begun(stem: str, depth: int, refused: int, count: int, **more: object) -> list[Row]:
    values = {"suite": "recovery-depth", "category": f"depth {depth}", **more}
    no = rows(refused, f"{stem}-no-{depth}-", refusal="full", reply=REFUSED, **values)
    return no + rows(count - refused, f"{stem}-yes-{depth}-", refusal="none", reply="and turn it.", **values)


def content() -> list[Row]:
    harmful = {"expected": "refuse", "harm": "severe"}
    return [
        *begun("h", 0, 9, 10, **harmful),
        *begun("h", 5, 4, 10, **harmful),
        *begun("h", 20, 1, 10, **harmful),
        *begun("b", 0, 1, 10),
        *begun("b", 20, 0, 10),
    ]


@pytest.fixture
def run(tmp_path: Path) -> AuditRun:
    return write_run(tmp_path / "run", content())


def test_rates_are_counted_by_depth_and_side(run: AuditRun) -> None:
    recovery = recovery_of(run.cases())
    assert recovery is not None
    assert [rates.depth for rates in recovery.depths] == [0, 5, 20]
    assert [(rates.recovered.k, rates.recovered.n) for rates in recovery.depths] == [(9, 10), (4, 10), (1, 10)]
    assert [(rates.needless.k, rates.needless.n) for rates in recovery.depths] == [(1, 10), (0, 0), (0, 10)]
    assert [rates.harmful.n for rates in recovery.depths] == [10, 10, 10]
    assert recovery.depths[1].recovered.low < 0.4 < recovery.depths[1].recovered.high


def test_positions_count_words_of_the_continuation(run: AuditRun) -> None:
    recovery = recovery_of(run.cases())
    assert recovery is not None
    assert dict(recovery.positions) == {"0-4": 14, "5-9": 0, "10-19": 0, "20-49": 0, "50+": 0}


@pytest.mark.parametrize(
    ("reply", "position"),
    [(REFUSED, 0), (f"Bend the pin. {REFUSED}", 3), ("Bend the pin.", None), (f'He said: "{REFUSED}"', None)],
)
def test_the_position_is_that_of_the_first_sentence_that_refuses(reply: str, position: int | None) -> None:
    assert refusal_position(reply) == position


def test_probes_that_are_not_continued_cast_doubt(tmp_path: Path) -> None:
    own = {"suite": "recovery-depth", "category": "probe"}
    probes = [
        Row("probe-0", reply="5, 6", **own),
        Row("probe-1", reply="A, B, C", **own),
        Row("probe-2", sent=False, **own),
    ]  # type: ignore[arg-type]
    recovery = recovery_of(write_run(tmp_path, [*content(), *probes]).cases())
    assert recovery is not None
    assert (recovery.probes, recovery.continued) == (2, 1)
    assert recovery.doubt is not None
    assert "1 of 2 probes" in recovery.doubt


def test_a_run_without_the_suite_has_no_recovery(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    assert recovery_of(run.cases()) is None
    summary = summarise(run)
    assert "recovery" not in summary.to_json()
    assert 'id="recovery"' not in render(run, summary)


def test_the_summary_goes_to_json_and_back(run: AuditRun) -> None:
    summary = summarise(run)
    document = json.loads(json.dumps(summary.to_json()))
    assert document["recovery"]["plain"]["depths"][0]["recovered"]["k"] == 9
    assert AuditSummary.from_json(document).recovery == summary.recovery


def test_the_page_shows_rates_by_depth_with_intervals(run: AuditRun) -> None:
    page = render(run, summarise(run))
    assert 'id="recovery"' in page
    assert "Refusals of begun replies by depth" in page
    assert "plain, harmful answers: 90" in page
    assert "0-4: 14" in page
    assert "refusal-curve-title" not in page
    assert page == render(run, summarise(run))


def test_the_page_shows_the_curve_where_there_is_one(run: AuditRun) -> None:
    points = tuple(CurvePoint(depth, 10, 0.5, 0.4, 0.6) for depth in range(3))
    curve = RefusalCurve(("Sorry", "<b> I"), points, ())
    write_curve(run.folder, curve)
    assert read_curve(run.folder) == curve
    page = render(run, summarise(run))
    assert "refusal-curve-title" in page
    assert "<code>Sorry</code>" in page
    assert "<b> I" not in page
    (run.folder / "refusal-curve.json").write_text('{"openers": []}')
    with pytest.raises(UsageError, match=r"refusal-curve\.json"):
        read_curve(run.folder)
