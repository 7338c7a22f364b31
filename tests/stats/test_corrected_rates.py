"""A judge's errors are taken out of a counted rate, and the interval carries what the labels leave open."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.stats.corrected_rates import correct_rate
from equipoise.stats.proportions import Rate


def test_the_point_is_rogan_s_and_gladen_s_and_within_its_interval() -> None:
    result = correct_rate(Rate.of(30, 100), Rate.of(80, 100), Rate.of(90, 100))
    assert result.rate == pytest.approx((0.3 + 0.9 - 1) / (0.8 + 0.9 - 1))
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.rate < result.high
    assert result.reason is None


def test_a_point_outside_is_clipped_into_an_interval_that_holds_it() -> None:
    for k, point in ((1, 0.0), (99, 1.0)):
        result = correct_rate(Rate.of(k, 100), Rate.of(80, 100), Rate.of(80, 100))
        assert result.rate == point
        assert point in (result.low, result.high)
        assert "clipped" in str(result.reason)


def test_a_judge_no_better_than_chance_corrects_nothing() -> None:
    result = correct_rate(Rate.of(30, 100), Rate.of(50, 100), Rate.of(55, 100))
    assert (result.rate, result.low, result.high) == (None, None, None)
    assert "too few labels" in str(result.reason)


def test_the_same_seed_gives_the_same_interval_and_more_confidence_a_wider_one() -> None:
    rates = (Rate.of(30, 100), Rate.of(40, 50), Rate.of(45, 50))
    assert correct_rate(*rates, seed=3) == correct_rate(*rates, seed=3)
    wide, narrow = (correct_rate(*rates, confidence=confidence) for confidence in (0.99, 0.8))
    ends = np.array([wide.low, narrow.low, narrow.high, wide.high], dtype=float)
    assert (np.diff(ends) > 0).all()
