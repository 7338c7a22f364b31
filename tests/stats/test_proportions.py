from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import UsageError
from equipoise.stats.proportions import Rate


def test_wilson_interval_equals_the_published_example():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611.
    assert Rate.of(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert Rate.of(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert Rate.of(0, 20).low == 0
    assert Rate.of(0, 20).high == pytest.approx(0.1611, abs=5e-5)


def test_nothing_scored_means_nothing_known():
    rate = Rate.of(0, 0, unscored=7)
    assert (rate.rate, rate.low, rate.high, rate.unscored) == (None, 0.0, 1.0, 7)
    assert str(rate) == "unknown (0/0, 7 unscored)"


def test_unscored_stand_beside_the_rate_not_in_it():
    assert Rate.of(3, 4, unscored=96).rate == 0.75
    assert Rate.of(3, 4, unscored=96).low == Rate.of(3, 4).low
    assert str(Rate.of(3, 4, unscored=96)).endswith("(3/4, 96 unscored)")


@pytest.mark.parametrize(("k", "n", "unscored"), [(-1, 3, 0), (4, 3, 0), (0, 0, -1), (1, 0, 0)])
def test_impossible_counts_are_refused(k, n, unscored):
    with pytest.raises(UsageError, match="expected counts"):
        Rate.of(k, n, unscored)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidence_is_refused(confidence):
    with pytest.raises(UsageError, match="confidence"):
        Rate.of(1, 2, confidence=confidence)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_rate_and_mirrors(counts):
    k, n = counts
    rate, mirror = Rate.of(k, n), Rate.of(n - k, n)
    assert 0 <= rate.low <= rate.rate + 1e-12
    assert rate.rate - 1e-12 <= rate.high <= 1
    assert rate.low == pytest.approx(1 - mirror.high, abs=1e-9)
    assert Rate.of(k, n, confidence=0.5).high <= rate.high + 1e-12
