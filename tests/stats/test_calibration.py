"""Scores against labels: the numbers are those of the definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from equipoise.stats.calibration import (
    BINS,
    expected_calibration_error,
    platt_scaling,
    reliability_bins,
    roc_auc,
    roc_points,
)

SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(positive=SCORES, negative=SCORES)
def test_the_area_is_the_share_of_pairs_in_the_right_order_and_that_under_the_curve(
    positive: list[float], negative: list[float]
) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert roc_auc(positive, negative) == pytest.approx(np.mean(pairs))
    points = roc_points(positive, negative)
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    assert sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points)) == pytest.approx(np.mean(pairs))


def test_the_curve_has_a_point_for_every_score() -> None:
    points = roc_points([0.9, 0.8, 0.4], [0.4, 0.1])
    assert points == ((0, 0), (0, 1 / 3), (0, 2 / 3), (0.5, 1), (1, 1))


def test_bins_hold_every_case_and_both_ends() -> None:
    bins = reliability_bins([0.0, 0.05, 1.0, 0.55, 0.95], [False, True, True, False, False])
    assert [(bin.count, bin.observed) for bin in bins] == [(2, 0.5), (1, 0.0), (2, 0.5)]
    assert [bin.predicted for bin in bins] == pytest.approx([0.025, 0.55, 0.975])
    generator = np.random.default_rng(0)
    many = reliability_bins(generator.random(500).tolist(), (generator.random(500) < 0.3).tolist())
    assert len(many) == BINS
    assert sum(bin.count for bin in many) == 500


def test_the_calibration_error_is_zero_for_true_probabilities_and_grows_with_a_shift() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.random(40_000)
    labels = (generator.random(40_000) < probabilities).tolist()
    assert expected_calibration_error(reliability_bins(probabilities.tolist(), labels)) < 0.02
    shifted = (probabilities * 0.5).tolist()
    assert expected_calibration_error(reliability_bins(shifted, labels)) == pytest.approx(0.25, abs=0.02)


def log_loss(logits: np.ndarray, labels: np.ndarray, slope: float, intercept: float) -> float:
    """Cross-entropy against Platt's smoothed targets (Platt 1999, equation 3 ff.)."""
    positive, negative = labels.sum(), (~labels).sum()
    target = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    values = slope * logits + intercept
    return float(np.mean(np.logaddexp(0, values) - target * values))


@pytest.mark.parametrize(("count", "scale", "separable"), [(4000, 2.0, False), (60, 8.0, False), (12, 1.0, True)])
def test_platt_scaling_has_the_least_loss(count: int, scale: float, separable: bool) -> None:
    generator = np.random.default_rng(2)
    logits = generator.normal(0, scale, count)
    labels = logits > 0 if separable else generator.random(count) < 1 / (1 + np.exp(-(0.7 * logits - 1)))
    slope, intercept = platt_scaling(logits, labels)
    best = minimize(lambda x: log_loss(logits, labels, *x), (1.0, 0.0), method="Nelder-Mead", options={"xatol": 1e-8})
    assert (slope, intercept) == pytest.approx(best.x, abs=1e-4)
    assert log_loss(logits, labels, slope, intercept) <= best.fun + 1e-9


def test_platt_scaling_recovers_a_known_scale() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, 4000)
    labels = generator.random(4000) < 1 / (1 + np.exp(-(0.7 * logits - 1)))
    assert platt_scaling(logits, labels) == pytest.approx((0.7, -1.0), abs=0.12)
