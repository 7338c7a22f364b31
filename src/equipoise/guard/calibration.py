"""Which threshold to set: from labelled replies, with a bound on the false-positive rate, and what it then finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from equipoise.errors import UsageError
from equipoise.guard.decision import Detector, HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import run_detector
from equipoise.judges.judge_rows import JudgeRow, batches, read_rows
from equipoise.stats.proportions import Rate
from equipoise.stats.thresholds import Threshold, calibrate

LABELS: Final = ("harmful", "label")
"""Fields that may hold the label, the first that is there."""
HARMFUL: Final = frozenset({"1", "true", "yes", "harmful", "unsafe", "some", "severe"})
HARMLESS: Final = frozenset({"0", "false", "no", "harmless", "safe", "none"})
BINS: Final = 10
BATCH: Final = 64


@dataclass(frozen=True)
class ReliabilityBin:
    """Replies of similar probability."""

    said: float
    """Their mean probability of harm."""
    seen: float
    """The share of them that does harm."""
    count: int


@dataclass(frozen=True)
class ThresholdCalibration:
    """A threshold and what it is worth."""

    detector: str
    identity: str
    threshold: Threshold
    """`value` is the highest score that is still let pass; the policy takes the next number above it."""
    found: Rate
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
        """The threshold as the policy takes it: at or above it something is done."""
        return min(1.0, math.nextafter(self.threshold.value, math.inf))

    @property
    def error(self) -> float:
        """The expected calibration error: how far probabilities are from shares, weighted by replies."""
        total = sum(each.count for each in self.bins)
        return sum(each.count * abs(each.said - each.seen) for each in self.bins) / total

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the data cannot support."""
        told = []
        found = self.threshold
        if not found.supported:
            told.append(
                f"{found.count} harmless replies cannot support a rate of {found.asked:g}: the bound is "
                f"{found.bound:.3f}; about {needed(found.asked, found.confidence)} are needed"
            )
        if found.value >= 1.0:
            told.append("a harmless reply has the probability 1: no threshold lets it pass")
        return tuple(told)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "detector": self.detector,
            "identity": self.identity,
            "threshold": self.setting,
            "false_positives": self.threshold.to_dict(),
            "true_positives": {"k": self.found.k, "n": self.found.n, "low": self.found.low, "high": self.found.high},
            "auc": self.auc,
            "calibration_error": self.error,
            "unscored": self.unscored,
            "unusable": self.unusable,
            "warnings": list(self.warnings),
        }


def needed(rate: float, confidence: float) -> int:
    """How many harmless replies, none of them above the threshold, support a false-positive rate."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - rate))


def measure(detector: Detector, labels: Path, rate: float, *, confidence: float = 0.95) -> ThresholdCalibration:
    """Choose a threshold from a file of labelled replies.

    Args:
        detector: whose scores.
        labels: rows with `id`, `prompt`, `response` and `harmful` or `label` (1 or 0, true or false, harmful or
            harmless, unsafe or safe).
        rate: the false-positive rate that is asked for.
        confidence: of its bound (Clopper and Pearson 1934).

    Raises:
        UsageError: no such file, labels that are none, or not both kinds of replies.
    """
    harmful: list[bool] = []
    scores: list[HarmScore] = []
    unusable = 0
    for batch in batches(read_rows(labels), BATCH):
        good = [row for row in batch if row.exchange is not None]
        unusable += len(batch) - len(good)
        harmful += [label_of(row, labels) for row in good]
        scores += run_detector(detector, [GuardInput.of(row.exchange) for row in good if row.exchange is not None])
    pairs = [(score.harm, bad) for score, bad in zip(scores, harmful, strict=True) if score.harm is not None]
    bad, good_ = [value for value, is_bad in pairs if is_bad], [value for value, is_bad in pairs if not is_bad]
    if not bad or not good_:
        raise UsageError(
            f"expected harmful and harmless replies in {labels}, got {len(bad)} and {len(good_)}; try adding the other"
        )
    threshold = calibrate(good_, rate, confidence=confidence)
    return ThresholdCalibration(
        detector.name,
        detector.identity,
        threshold,
        Rate.of(sum(value > threshold.value for value in bad), len(bad)),
        area(bad, good_),
        reliability(pairs),
        curve(bad, good_),
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
        told = "none" if value is None else repr(str(value)[:40])
        raise UsageError(
            f"expected harmful (true or false) in every row, got {told} in line {row.line} of {file}; "
            'try {"id": "1", "prompt": "...", "response": "...", "harmful": false}'
        )
    return text in HARMFUL


def area(harmful: Sequence[float], harmless: Sequence[float]) -> float:
    """The area under the ROC curve, ties half (Mann and Whitney 1947)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(harmful, harmless).statistic) / (len(harmful) * len(harmless))


def curve(harmful: Sequence[float], harmless: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The ROC curve: a point for every score, the strictest first."""
    points = [(0.0, 0.0)]
    for at in sorted({*harmful, *harmless}, reverse=True):
        points.append((_share(harmless, at), _share(harmful, at)))
    return tuple(points)


def _share(values: Sequence[float], at: float) -> float:
    return sum(value >= at for value in values) / len(values)


def reliability(pairs: Sequence[tuple[float, bool]]) -> tuple[ReliabilityBin, ...]:
    """Said and seen in ten bins of equal width; empty ones are left out."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for value, bad in pairs:
        bins[min(BINS - 1, int(value * BINS))].append((value, bad))
    return tuple(
        ReliabilityBin(sum(value for value, _ in each) / len(each), sum(bad for _, bad in each) / len(each), len(each))
        for each in bins
        if each
    )


def draw(found: ThresholdCalibration, target: Path) -> None:
    """Draw reliability and ROC side by side into a picture; its suffix chooses the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.8")
    sizes = [20 + 180 * each.count / max(b.count for b in found.bins) for each in found.bins]
    left.scatter([each.said for each in found.bins], [each.seen for each in found.bins], s=sizes, alpha=0.75)
    for each in found.bins:
        left.annotate(str(each.count), (each.said, each.seen), textcoords="offset points", xytext=(7, -9), fontsize=8)
    left.axvline(found.setting, linestyle=":", color="0.3")
    left.set(
        title=f"Reliability (calibration error {found.error:.3f})",
        xlabel="probability of harm, as said",
        ylabel="share that does harm, as seen",
        xlim=(-0.03, 1.03),
        ylim=(-0.05, 1.05),
    )
    right.plot([x for x, _ in found.roc], [y for _, y in found.roc])
    right.plot([0, 1], [0, 1], color="0.8")
    right.scatter([found.threshold.rate], [found.found.k / found.found.n], zorder=3, color="0.2")
    right.annotate(
        f"threshold {found.setting:.3f}",
        (found.threshold.rate, found.found.k / found.found.n),
        textcoords="offset points",
        xytext=(8, -12),
        fontsize=9,
    )
    right.set(title=f"ROC (AUC {found.auc:.3f})", xlabel="harmless replies stopped", ylabel="harmful replies found")
    figure.savefig(target, dpi=150)
