"""A threshold keeps false alarms below what was asked for, and says when the labels cannot support it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from equipoise.errors import UsageError
from equipoise.guard.calibration import calibrate_threshold, plot_calibration
from equipoise.guard.decision import HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Rail, judge
from equipoise.guard.training_rows import labelled, with_rewrites


class Numbers:
    """The reply is its own score."""

    name = "numbers"
    identity = "numbers-1"

    def __call__(self, evidence: Sequence[GuardInput]) -> list[HarmScore]:
        return [HarmScore(self.name, None if item.response == "?" else float(item.response)) for item in evidence]


def file(tmp_path: Path, rows: Sequence[tuple[object, object]]) -> Path:
    target = tmp_path / "labels.jsonl"
    lines = [
        json.dumps({"id": at, "prompt": "q", "response": str(reply), "harmful": label})
        for at, (reply, label) in enumerate(rows)
    ]
    target.write_text("\n".join(lines))
    return target


def spread(harmless: int, harmful: int) -> list[tuple[object, object]]:
    random = np.random.default_rng(0)
    good = [(round(value, 6), False) for value in random.beta(1, 6, harmless)]
    bad = [(round(value, 6), True) for value in random.beta(6, 2, harmful)]
    return [*good, *bad]


def test_the_policy_s_threshold_stops_no_more_than_was_asked_for(tmp_path: Path) -> None:
    rows = spread(600, 100)
    calibration = calibrate_threshold(Numbers(), file(tmp_path, rows), 0.02)
    rail = Rail(threshold=calibration.setting, action="refuse")
    stopped = [judge(rail, HarmScore("n", float(str(value))))[0] == "refuse" for value, _ in rows]
    assert sum(stopped[:600]) / 600 == calibration.threshold.rate <= calibration.threshold.bound <= 0.02
    assert sum(stopped[600:]) == calibration.recall.k
    assert calibration.warnings == ()
    assert calibration.auc > 0.95


def test_too_few_labels_are_said_to_be_too_few(tmp_path: Path) -> None:
    calibration = calibrate_threshold(Numbers(), file(tmp_path, spread(50, 20)), 0.01)
    (warning,) = calibration.warnings
    assert "50 harmless replies cannot support" in warning
    assert "about 299 are needed" in warning


def test_what_is_not_scored_is_counted_apart(tmp_path: Path) -> None:
    calibration = calibrate_threshold(Numbers(), file(tmp_path, [*spread(40, 10), ("?", True), ("?", False)]), 0.1)
    assert (calibration.unscored, calibration.recall.n, calibration.threshold.count) == (2, 10, 40)


@pytest.mark.parametrize("label", [True, 1, "1", "unsafe", "Harmful", "yes"])
def test_labels_are_read_in_many_forms(tmp_path: Path, label: object) -> None:
    (row,) = labelled(file(tmp_path, [("0.5", label)]))
    assert row.harmful is True


@pytest.mark.parametrize("label", ["maybe", None, 2, "", []])
def test_a_label_that_is_none_names_its_line(tmp_path: Path, label: object) -> None:
    with pytest.raises(UsageError, match="line 2"):
        calibrate_threshold(Numbers(), file(tmp_path, [("0.5", False), ("0.5", label)]), 0.1)


def test_one_kind_of_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="harmful and harmless"):
        calibrate_threshold(Numbers(), file(tmp_path, [("0.5", False)]), 0.1)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_it_is_drawn(tmp_path: Path, suffix: str) -> None:
    calibration = calibrate_threshold(Numbers(), file(tmp_path, spread(300, 50)), 0.05)
    plot_calibration(calibration, tmp_path / f"plot{suffix}")
    assert (tmp_path / f"plot{suffix}").stat().st_size > 1000


def test_rows_for_trainings_end_at_the_first_bad_one(tmp_path: Path) -> None:
    target = tmp_path / "rows.jsonl"
    target.write_text('{"id": 1, "prompt": "q", "response": "r", "harmful": true, "weight": 0.5, "dataset": "d"}\n')
    (row,) = labelled(target)
    assert (row.weight, row.dataset, row.evidence.question) == (0.5, "d", "q")
    target.write_text('{"id": 1, "prompt": "q", "response": "r", "harmful": true, "weight": -1}\n')
    with pytest.raises(UsageError, match="weight"):
        labelled(target)
    with pytest.raises(UsageError, match="rewrite"):
        with_rewrites(target)
    target.write_text('{"id": 1, "prompt": "q", "harmful": true}\n')
    with pytest.raises(UsageError, match="no response"):
        labelled(target)
    target.write_text('{"id": 1, "prompt": "q", "response": "r", "rewrite": "w"}\n')
    assert with_rewrites(target)[0].rewrite == "w"
