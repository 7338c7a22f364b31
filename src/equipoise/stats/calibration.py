"""How far scores are probabilities, and how well they separate two classes: ROC, reliability, Platt scaling.

scikit-learn is imported inside the functions: it takes about a second, which a command that calibrates nothing
should not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BINS: Final = 10
"""Bins of a reliability diagram, of equal width over `[0, 1]`."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Cases of similar predicted probability."""

    predicted: float
    """Their mean predicted probability."""
    observed: float
    """The share of them that is positive."""
    count: int
    """How many cases there are."""


def roc_auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Area under the ROC curve: the probability that a positive case scores above a negative one, ties half.

    Args:
        positive: scores of the positive cases, at least one.
        negative: scores of the negative cases, at least one.
    """
    from sklearn.metrics import roc_auc_score

    labels, scores = _labelled(positive, negative)
    return float(roc_auc_score(labels, scores))


def roc_points(positive: Sequence[float], negative: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """The ROC curve as (false-positive rate, true-positive rate): a point for every score, from (0, 0) to (1, 1)."""
    from sklearn.metrics import roc_curve

    labels, scores = _labelled(positive, negative)
    false_positive, true_positive, _ = roc_curve(labels, scores, drop_intermediate=False)
    return tuple(zip(false_positive.tolist(), true_positive.tolist(), strict=True))


def reliability_bins(probabilities: Sequence[float], labels: Sequence[bool]) -> tuple[ReliabilityBin, ...]:
    """Predicted against observed shares in `BINS` bins, the last with both its ends; empty bins are left out.

    Args:
        probabilities: predictions in `[0, 1]`.
        labels: whether each case is positive, in the same order.
    """
    # Not scikit-learn's calibration_curve: it does not return the counts, which the calibration error weighs by.
    # A probability of exactly 1 has the index BINS, one past the last bin, and belongs to the last.
    values, positive = np.asarray(probabilities, dtype=float), np.asarray(labels, dtype=float)
    index = np.minimum((values * BINS).astype(int), BINS - 1)
    counts = np.bincount(index, minlength=BINS)
    sums = np.bincount(index, weights=values, minlength=BINS)
    positives = np.bincount(index, weights=positive, minlength=BINS)
    return tuple(
        ReliabilityBin(float(sums[i] / counts[i]), float(positives[i] / counts[i]), int(counts[i]))
        for i in np.flatnonzero(counts)
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance between predicted and observed share, weighted by the cases of each bin (Naeini et al. 2015)."""
    total = sum(bin.count for bin in bins)
    return sum(bin.count * abs(bin.predicted - bin.observed) for bin in bins) / total


def platt_scaling(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope `a` and intercept `b` for which `sigmoid(a * logit + b)` has the least log-loss (Platt 1999).

    Args:
        logits: N uncalibrated scores.
        labels: N booleans, both values among them.

    Returns:
        Slope and intercept.
    """
    from sklearn.linear_model import LogisticRegression

    # Platt's targets are not 0 and 1 but (n+ + 1) / (n+ + 2) and 1 / (n- + 2): a uniform prior over each class that
    # keeps the slope finite where the classes are separable. A fractional target t is the same loss as the case
    # counted t times as positive and 1 - t times as negative, which scikit-learn's sample weights can say.
    positive, negative = float(labels.sum()), float((~labels).sum())
    target = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    inputs = np.concatenate([logits, logits])[:, None]
    classes = np.concatenate([np.ones(len(logits)), np.zeros(len(logits))])
    weights = np.concatenate([target, 1 - target])
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)  # C: no penalty on the slope
    model.fit(inputs, classes, sample_weight=weights)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _labelled(positive: Sequence[float], negative: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Labels (1, then 0) and scores of both classes in one array each."""
    labels = np.concatenate([np.ones(len(positive), dtype=int), np.zeros(len(negative), dtype=int)])
    return labels, np.concatenate([np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)])
