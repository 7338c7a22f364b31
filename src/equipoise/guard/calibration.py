"""The threshold of a harm detector, chosen on labelled replies so that its false-positive rate is bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from equipoise.errors import UsageError
from equipoise.guard.decision import Detector, HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import run_detector
from equipoise.judges.judge_rows import JudgeRow, batches, read_rows
from equipoise.stats.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability_bins,
    roc_auc,
    roc_points,
)
from equipoise.stats.proportions import Rate
from equipoise.stats.thresholds import Threshold, calibrate, scores_needed

LABELS: Final = ("harmful", "label")
"""Fields that may hold the label, the first that is there."""
HARMFUL: Final = frozenset({"1", "true", "yes", "harmful", "unsafe", "some", "severe"})
HARMLESS: Final = frozenset({"0", "false", "no", "harmless", "safe", "none"})
BATCH: Final = 64
"""Rows scored at a time."""


@dataclass(frozen=True)
class ThresholdCalibration:
    """A threshold of a detector, with what it stops and what it catches."""

    detector: str
    """Name of the detector."""
    identity: str
    """Which weights exactly."""
    threshold: Threshold
    """`value` is the highest score that is still let pass; the policy takes the next number above it."""
    recall: Rate
    """Harmful replies at or above the policy's threshold."""
    auc: float
    """The probability that a harmful reply scores above a harmless one."""
    bins: tuple[ReliabilityBin, ...]
    """For the reliability diagram."""
    roc: tuple[tuple[float, float], ...]
    """False- and true-positive rates, from (0, 0) to (1, 1)."""
    unscored: int
    """Replies that the detector could not judge."""
    unusable: int
    """Rows that could not be read."""

    @property
    def setting(self) -> float:
        """The threshold as the policy takes it: a reply at or above it is acted on."""
        # The threshold is a score of the data that must still pass, and the policy acts from its number on (`>=`): so
        # the policy gets the next float above it.
        return min(1.0, math.nextafter(self.threshold.value, math.inf))

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: mean distance of probabilities from shares, weighted by replies."""
        return expected_calibration_error(self.bins)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the data cannot support."""
        warnings = []
        threshold = self.threshold
        if not threshold.supported:
            warnings.append(
                f"{threshold.count} harmless replies cannot support a rate of {threshold.target_rate:g}: the bound is "
                f"{threshold.bound:.3f}; about {scores_needed(threshold.target_rate, threshold.confidence)} are needed"
            )
        if threshold.value >= 1.0:
            warnings.append("a harmless reply has the probability 1: no threshold lets it pass")
        return tuple(warnings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "detector": self.detector,
            "identity": self.identity,
            "threshold": self.setting,
            "false_positives": self.threshold.to_dict(),
            "true_positives": {
                "k": self.recall.k,
                "n": self.recall.n,
                "low": self.recall.low,
                "high": self.recall.high,
            },
            "auc": self.auc,
            "calibration_error": self.calibration_error,
            "unscored": self.unscored,
            "unusable": self.unusable,
            "warnings": list(self.warnings),
        }


def calibrate_threshold(
    detector: Detector, labels: Path, rate: float, *, confidence: float = 0.95
) -> ThresholdCalibration:
    """Choose a threshold from a file of labelled replies.

    Args:
        detector: whose scores.
        labels: rows with `id`, `prompt`, `response` and `harmful` or `label` (1 or 0, true or false, harmful or
            harmless, unsafe or safe).
        rate: the false-positive rate requested.
        confidence: of its bound (Clopper and Pearson 1934).

    Raises:
        UsageError: no such file, labels that are none, or not both kinds of replies.
    """
    truth: list[bool] = []
    scores: list[HarmScore] = []
    unusable = 0
    for batch in batches(read_rows(labels), BATCH):
        usable = [row for row in batch if row.exchange is not None]
        unusable += len(batch) - len(usable)
        truth += [label_of(row, labels) for row in usable]
        scores += run_detector(
            detector, [GuardInput.from_exchange(row.exchange) for row in usable if row.exchange is not None]
        )
    pairs = [(score.harm, harmful) for score, harmful in zip(scores, truth, strict=True) if score.harm is not None]
    positive = [value for value, harmful in pairs if harmful]
    negative = [value for value, harmful in pairs if not harmful]
    if not positive or not negative:
        raise UsageError(
            f"expected harmful and harmless replies in {labels}, got {len(positive)} and {len(negative)}; "
            "try adding the other"
        )
    threshold = calibrate(negative, rate, confidence=confidence)
    return ThresholdCalibration(
        detector.name,
        detector.identity,
        threshold,
        Rate.of(sum(value > threshold.value for value in positive), len(positive)),
        roc_auc(positive, negative),
        reliability_bins([value for value, _ in pairs], [harmful for _, harmful in pairs]),
        roc_points(positive, negative),
        len(scores) - len(pairs),
        unusable,
    )


def label_of(row: JudgeRow, file: Path) -> bool:
    """Whether a row is labelled harmful.

    Raises:
        UsageError: it has no label, or one that is none.
    """
    value = next((row.values[name] for name in LABELS if row.values.get(name) is not None), None)
    text = str(value).strip().lower().removesuffix(".0")
    if value is None or text not in HARMFUL | HARMLESS:
        given = "none" if value is None else repr(str(value)[:40])
        raise UsageError(
            f"expected harmful (true or false) in every row, got {given} in line {row.line} of {file}; "
            'try {"id": "1", "prompt": "...", "response": "...", "harmful": false}'
        )
    return text in HARMFUL


def plot_calibration(calibration: ThresholdCalibration, target: Path) -> None:
    """Draw reliability and ROC side by side into a picture; its suffix chooses the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = calibration.bins
    left.plot([0, 1], [0, 1], color="0.8")
    sizes = [20 + 180 * bin.count / max(other.count for other in bins) for bin in bins]
    left.scatter([bin.predicted for bin in bins], [bin.observed for bin in bins], s=sizes, alpha=0.75)
    for bin in bins:
        point = (bin.predicted, bin.observed)
        left.annotate(str(bin.count), point, textcoords="offset points", xytext=(7, -9), fontsize=8)
    left.axvline(calibration.setting, linestyle=":", color="0.3")
    left.set(
        title=f"Reliability (calibration error {calibration.calibration_error:.3f})",
        xlabel="predicted probability of harm",
        ylabel="observed share of harmful replies",
        xlim=(-0.03, 1.03),
        ylim=(-0.05, 1.05),
    )
    operating_point = (calibration.threshold.rate, calibration.recall.k / calibration.recall.n)
    right.plot([x for x, _ in calibration.roc], [y for _, y in calibration.roc])
    right.plot([0, 1], [0, 1], color="0.8")
    right.scatter([operating_point[0]], [operating_point[1]], zorder=3, color="0.2")
    right.annotate(
        f"threshold {calibration.setting:.3f}",
        operating_point,
        textcoords="offset points",
        xytext=(8, -12),
        fontsize=9,
    )
    right.set(
        title=f"ROC (AUC {calibration.auc:.3f})", xlabel="harmless replies stopped", ylabel="harmful replies found"
    )
    figure.savefig(target, dpi=150)
