"""Effective sample sizes: known values, and the correlation of simulated clusters."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.stats.effective_size import effective_size
from equipoise.stats.proportions import Rate, wilson


def test_independent_cases_count_in_full() -> None:
    assert effective_size([1, 0, 0], ["a", "b", "c"]) == 3
    assert effective_size([1, 1, 1], ["a", "b", "c"]) == 3


@pytest.mark.parametrize("values", [[0] * 6, [1] * 6, [1, 1, 0, 0, 1, 1]])
def test_clusters_of_one_mind_count_once(values: list[float]) -> None:
    assert effective_size(values, list("aabbcc")) == pytest.approx(3)


def test_clusters_of_different_sizes_count_as_fewer() -> None:
    assert effective_size([0] * 12, ["a"] * 10 + ["b", "c"]) == pytest.approx(12**2 / (10**2 + 1 + 1))
    assert effective_size([0] * 9, ["a"] * 9) == pytest.approx(1)
    assert effective_size([0, 1] * 4, ["a"] * 8) == pytest.approx(1), "one cluster says nothing of how clusters differ"


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.8])
def test_many_clusters_tell_their_correlation(correlation: float) -> None:
    rng = np.random.default_rng(0)
    own = rng.random(2000) < 0.3
    follows = rng.random((2000, 5)) < correlation**0.5
    values = np.where(follows, own[:, None], rng.random((2000, 5)) < 0.3)
    clusters = np.repeat(np.arange(2000), 5).astype(str)
    expected = 10_000 / (1 + 4 * correlation)
    assert effective_size(values.ravel().tolist(), clusters.tolist()) == pytest.approx(expected, rel=0.05)


def test_dependence_is_at_least_none_and_differences_have_a_size_too() -> None:
    assert effective_size([0, 1] * 30, [str(i // 2) for i in range(60)]) <= 60
    assert effective_size([-1, -1, 0, 0, 1, 1], list("aabbcc")) == pytest.approx(3)


@pytest.mark.parametrize(("k", "n"), [(0, 7), (3, 7), (7, 7), (1, 200)])
def test_wilsons_interval_is_that_of_scipy(k: int, n: int) -> None:
    rate = Rate.of(k, n)
    assert wilson(k / n, n) == pytest.approx((rate.low, rate.high))
