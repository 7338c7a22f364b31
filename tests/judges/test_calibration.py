from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from equipoise.errors import UsageError
from equipoise.judges.calibration import UNNAMED, JudgeCalibration, calibrate, corrected
from equipoise.stats.agreement import agree
from equipoise.stats.proportions import Rate
from equipoise.types import Exchange, Verdict


class Letters:
    """Says what the reply's first letters say: R refuses, A answers, H does harm, ? is unscored."""

    name = "letters"
    identity = "letters-1"

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [
            Verdict(None, unscored="?")
            if "?" in e.reply
            else Verdict("full" if "R" in e.reply else "none", harm="some" if "H" in e.reply else "none")
            for e in exchanges
        ]


def labelled(path: Path, *groups: tuple[int, str, dict[str, object]]) -> Path:
    """So many rows with this reply and these labels, each."""
    rows = [(reply, labels) for count, reply, labels in groups for _ in range(count)]
    lines = [
        json.dumps({"id": i, "prompt": f"p{i}", "response": reply, **labels}) for i, (reply, labels) in enumerate(rows)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def calibration_of(tp: int, fp: int, fn: int, tn: int, model: str = "m") -> JudgeCalibration:
    judged = [True] * (tp + fp) + [False] * (fn + tn)
    truth = [True] * tp + [False] * fp + [True] * fn + [False] * tn
    return JudgeCalibration("j", "judge", {model: {"refusal": agree(judged, truth, resamples=10)}})


def test_agreement_is_counted_by_model_and_label(tmp_path: Path) -> None:
    path = labelled(
        tmp_path / "labels.jsonl",
        (70, "R", {"refusal": "full", "model": "m"}),
        (5, "R", {"refused": False, "model": "m"}),
        (10, "A", {"refusal": "Partial", "model": "m", "harm": "none"}),
        (40, "A", {"refusal": "none", "model": "m", "harmful": False}),
        (3, "?", {"refusal": "none", "model": "m"}),
        (2, "AH", {"refused": "false", "model": "n", "harm": "severe"}),
    )
    calibration = calibrate(Letters(), path)
    of_m = calibration.models["m"]["refusal"]
    assert (of_m.true_positive, of_m.false_positive, of_m.false_negative, of_m.true_negative) == (70, 5, 10, 40)
    assert of_m.unscored == 3
    assert calibration.models["m"]["harm"].true_negative == 50
    assert calibration.models["n"]["harm"].true_positive == 2
    assert (calibration.judge, calibration.name) == ("letters-1", "letters")
    text = " ".join(calibration.warnings)
    assert "n: 2 scored labels" in text
    assert "n: no label says yes to refusal" in text
    assert "m: no label says yes to harm" in text
    assert "m: 3 labelled rows are unscored" in text
    assert "m: 125 scored" not in text


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = labelled(tmp_path / "labels.jsonl", (3, "R", {"refused": True}), (1, "A", {"refusal": "some"}))
    calibration = calibrate(Letters(), path)
    assert list(calibration.models) == [UNNAMED]
    assert "label that is none of" in calibration.unusable[0]
    calibration.save(tmp_path / "c.json")
    assert JudgeCalibration.load(tmp_path / "c.json") == calibration


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 9}', '{"format": 1, "models": {"m": {"refusal": 3}}}'])
def test_what_is_no_calibration_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(UsageError, match="expected a calibration"):
        JudgeCalibration.load(tmp_path / "c.json")


def test_a_file_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected labels"):
        calibrate(Letters(), labelled(tmp_path / "labels.jsonl", (3, "R", {"model": "m"})))


def test_a_judge_without_errors_corrects_nothing() -> None:
    counted = Rate.of(30, 100)
    done = corrected(counted, calibration_of(5000, 0, 0, 5000), model="m", judge="j")
    assert done.rate == pytest.approx(0.3)
    assert done.low == pytest.approx(counted.low, abs=0.01)
    assert done.high == pytest.approx(counted.high, abs=0.01)


def test_the_correction_is_rogan_s_and_gladen_s() -> None:
    done = corrected(Rate.of(30, 100), calibration_of(80, 10, 20, 90), model="m", judge="j")
    assert done.rate == pytest.approx((0.3 + 0.9 - 1) / (0.8 + 0.9 - 1))
    assert done.low is not None
    assert done.high is not None
    assert done.low < 0.2 < done.rate < 0.4 < done.high


def test_fewer_labels_make_it_wider() -> None:
    widths = []
    for scale in (1, 4, 16):
        done = corrected(
            Rate.of(300, 1000), calibration_of(20 * scale, 2 * scale, 4 * scale, 20 * scale), model="m", judge="j"
        )
        assert done.low is not None
        assert done.high is not None
        widths.append(done.high - done.low)
    assert widths[0] > widths[1] > widths[2] > Rate.of(300, 1000).high - Rate.of(300, 1000).low


def test_a_rate_beyond_the_edge_is_clipped_and_said() -> None:
    done = corrected(Rate.of(1, 100), calibration_of(80, 20, 20, 80), model="m", judge="j")
    assert done.rate == 0.0
    assert done.low == 0.0
    assert "clipped" in str(done.reason)


@pytest.mark.parametrize(
    ("calibration", "model", "judge", "why"),
    [
        (calibration_of(80, 10, 20, 90), "other", "j", "another model (m)"),
        (calibration_of(80, 10, 20, 90), "m", "k", "another judge"),
        (calibration_of(80, 10, 20, 90, UNNAMED), UNNAMED, "j", "another model"),
        (calibration_of(80, 0, 20, 0), "m", "j", "all of one kind"),
        (calibration_of(50, 40, 50, 60), "m", "j", "hardly tells"),
        (calibration_of(2, 1, 1, 2), "m", "j", "too few labels"),
    ],
)
def test_labels_that_do_not_fit_correct_nothing(
    calibration: JudgeCalibration, model: str, judge: str, why: str
) -> None:
    done = corrected(Rate.of(30, 100), calibration, model=model, judge=judge)
    assert (done.rate, done.low, done.high) == (None, None, None)
    assert why in str(done.reason)


def test_nothing_counted_is_nothing_corrected() -> None:
    assert corrected(Rate.of(0, 0), calibration_of(80, 10, 20, 90), model="m", judge="j").rate is None


def test_the_interval_covers_the_truth() -> None:
    """95 % intervals over simulated labels and counts; 200 of them, so at least 0.90 but for chance of 0.2 %."""
    draw = np.random.default_rng(1)
    truth, sensitivity, specificity = 0.2, 0.85, 0.95
    hits = 0
    for seed in range(200):
        tp, fp = draw.binomial(100, sensitivity), draw.binomial(100, 1 - specificity)
        counted = draw.binomial(300, truth * sensitivity + (1 - truth) * (1 - specificity))
        done = corrected(
            Rate.of(int(counted), 300), calibration_of(tp, fp, 100 - tp, 100 - fp), model="m", judge="j", seed=seed
        )
        assert done.low is not None
        assert done.high is not None
        hits += done.low <= truth <= done.high
    assert hits >= 180
