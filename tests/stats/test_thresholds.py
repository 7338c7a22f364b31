from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest

from equipoise.errors import UsageError
from equipoise.stats.thresholds import calibrate, clopper_pearson_lower, scores_needed


def upper(hits: int, count: int, confidence: float = 0.95) -> float:
    return float(beta.ppf(confidence, hits + 1, count - hits))


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    for count in (1, 10, 64, 1000):
        for hits in {0, 1, count // 2, count - 1, count}:
            for alpha in (0.001, 0.05, 0.3):
                exact = binomtest(hits, count, alternative="greater").proportion_ci(1 - alpha, method="exact").low
                assert clopper_pearson_lower(hits, count, alpha) == pytest.approx(exact, abs=1e-9)


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    # Summed over all outcomes, which no simulation is as exact as.
    for count, alpha in ((20, 0.05), (100, 0.05), (100, 0.001)):
        hits = np.arange(count + 1)
        bounds = np.array([clopper_pearson_lower(int(k), count, alpha) for k in hits])
        for truth in np.linspace(0.02, 0.99, 25):
            assert binom.pmf(hits, count, truth)[bounds <= truth].sum() >= 1 - alpha - 1e-12
    draws = np.random.default_rng(0).binomial(50, 0.8, 2000)
    assert np.mean([clopper_pearson_lower(int(k), 50, 0.1) <= 0.8 for k in draws]) >= 0.9


def test_the_threshold_leaves_as_many_clean_scores_above_as_the_rate_allows() -> None:
    scores = np.random.default_rng(0).normal(size=400).tolist()
    ordered = sorted(scores, reverse=True)
    threshold = calibrate(scores, 0.05)
    above = sum(score > threshold.value for score in scores)
    assert threshold.value == ordered[above]
    assert threshold.rate == above / 400
    assert threshold.bound == pytest.approx(upper(above, 400))
    assert threshold.bound <= 0.05 < upper(above + 1, 400)
    assert threshold.supported
    assert threshold.to_dict() == {
        "value": threshold.value,
        "rate": threshold.rate,
        "bound": threshold.bound,
        "target_rate": 0.05,
        "count": 400,
        "confidence": 0.95,
        "supported": True,
    }


def test_too_few_scores_support_nothing() -> None:
    for count, supported in ((58, False), (59, True)):
        threshold = calibrate([float(i) for i in range(count)], 0.05)
        assert threshold.value == count - 1, "the highest: none is above it"
        assert threshold.rate == 0
        assert threshold.bound == pytest.approx(1 - 0.05 ** (1 / count))
        assert threshold.supported is supported
    assert not calibrate([1.0], 0.5).supported


def test_as_many_scores_are_needed_as_support_the_rate() -> None:
    assert scores_needed(0.05, 0.95) == 59
    assert scores_needed(0.01, 0.95) == 299
    assert scores_needed(1e-20, 0.95) == pytest.approx(3e20, rel=0.01)
    for rate, confidence in ((0.02, 0.9), (0.1, 0.99), (0.5, 0.6)):
        count = scores_needed(rate, confidence)
        supported = [
            calibrate([float(i) for i in range(n)], rate, confidence=confidence).supported for n in (count - 1, count)
        ]
        assert supported == [False, True]


def test_a_higher_rate_or_a_lower_confidence_never_raises_the_threshold() -> None:
    scores = np.random.default_rng(1).normal(size=150).tolist()
    values = [calibrate(scores, rate).value for rate in (0.01, 0.02, 0.05, 0.1, 0.3, 0.9)]
    assert values == sorted(values, reverse=True)
    values = [calibrate(scores, 0.1, confidence=confidence).value for confidence in (0.5, 0.8, 0.95, 0.999)]
    assert values == sorted(values)
    assert calibrate(scores, 0.1) == calibrate(scores[::-1], 0.1), "in whatever order"


def test_ties_are_not_flagged_and_do_not_lower_the_bound() -> None:
    threshold = calibrate([0.0] * 200, 0.05)
    assert (threshold.value, threshold.rate) == (0.0, 0.0)
    rank = next(k for k in range(200) if upper(k + 1, 200) > 0.05)
    assert threshold.bound == pytest.approx(upper(rank, 200))
    mixed = calibrate([5.0] * 3 + [0.0] * 197, 0.05)
    assert (mixed.value, mixed.rate) == (0.0, 3 / 200)
    assert mixed.supported


@pytest.mark.parametrize("tied", [False, True])
def test_the_bound_holds_as_often_as_it_says(tied: bool) -> None:
    random = np.random.default_rng(2)
    # Two levels whose tails lie just above the bounds of 1 and of 0 pictures in 100: the worst case of ties.
    tails = np.array([1.0, 0.047, 0.0296, 0.0])
    wrong = 0
    for _ in range(1500):
        draws = random.random(100)
        scores = (draws[:, None] < tails[1:]).sum(1).astype(float) if tied else 1 - draws
        threshold = calibrate(scores.tolist(), 0.05)
        truth = tails[int(threshold.value) + 1] if tied else 1 - threshold.value
        wrong += truth > threshold.bound
    assert wrong / 1500 <= 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_calibration_says_what_it_needs() -> None:
    for scores, rate, confidence in (
        ([], 0.05, 0.95),
        ([1.0], 0.0, 0.95),
        ([1.0], 1.0, 0.95),
        ([1.0], float("nan"), 0.95),
        ([1.0], 0.05, 1.0),
        ([1.0], 0.05, 0.0),
        ([1.0, float("nan")], 0.05, 0.95),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            calibrate(scores, rate, confidence=confidence)
