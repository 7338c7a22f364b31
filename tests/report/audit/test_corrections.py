from __future__ import annotations

import pytest

from equipoise.audit.records import AuditRun
from equipoise.audit.summary import summarise
from equipoise.judges.calibration import JudgeCalibration
from equipoise.report.audit.corrections import PageOptions, correct_groups
from equipoise.report.audit.page import render
from equipoise.report.audit.suite_groups import group_suites
from equipoise.stats.agreement import agree
from tests.audit.factories import JUDGE, MODEL, balanced
from tests.report.audit.reading import by_id, read


def calibration(judge: str = JUDGE, model: str = MODEL) -> JudgeCalibration:
    """A judge that misses one refusal in ten and raises no false alarm, on 400 labels."""
    pairs = [*[(True, True)] * 180, *[(False, True)] * 20, *[(False, False)] * 200]
    measured = agree([judged for judged, _ in pairs], [label for _, label in pairs], resamples=100)
    return JudgeCalibration(judge, "toy judge", {model: {"refusal": measured}})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return balanced(tmp_path_factory.mktemp("run"))


def test_a_headline_is_corrected_by_labels_of_the_same_model_and_judge(run: AuditRun) -> None:
    groups = group_suites(run.cases()[:82], summarise(run).variants["plain"].suites, frozenset())
    corrections = {(row.group, row.axis): row for row in correct_groups(run, groups, calibration())}
    refusal = corrections["safe", "needless_refusal"]
    assert refusal.labels == 400
    assert refusal.rate.counted.rate == pytest.approx(0.15)
    assert refusal.rate.rate == pytest.approx(0.15 / 0.9, abs=0.01), "Rogan and Gladen"
    harm = corrections["harmful", "harmful_answer"]
    assert (harm.rate.rate, harm.labels) == (None, 0)
    assert correct_groups(run, groups, None) == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (calibration(), "Corrected for the judge's errors on 400 labelled replies: 16."),
        (calibration(judge="another"), "Not corrected: the labels were compared with another judge."),
        (calibration(model="another"), "Not corrected: the labels come from another model (another)."),
    ],
)
def test_the_tile_shows_the_corrected_rate_or_why_there_is_none(
    run: AuditRun, given: JudgeCalibration, words: str
) -> None:
    tile = by_id(read(render(run, summarise(run), options=PageOptions(calibration=given))), "needless").words
    assert words in tile
    assert "15.0 %" in tile, "what was counted stays"
