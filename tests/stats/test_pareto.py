"""The front of measured variants: dominance, ties, unknown axes, and the bootstrap over clusters."""

from __future__ import annotations

import numpy as np
import pytest

from equipoise.errors import UsageError
from equipoise.stats.pareto import AxisLabels, front_membership

CASES = 60


def axis(*rates: float, cluster_size: int = 1, cases: int = CASES) -> AxisLabels:
    """Variants of which the first `rate * cases` cases count."""
    values = np.array([[float(i < round(rate * cases)) for i in range(cases)] for rate in rates])
    return AxisLabels(values, tuple(f"c{i // cluster_size}" for i in range(cases)))


def test_a_variant_that_is_better_on_both_axes_takes_the_other_off_the_front() -> None:
    better, worse = front_membership([axis(0.1, 0.8), axis(0.1, 0.8)])
    assert better is not None
    assert worse is not None
    assert (better.on_front, better.share, better.dominated_by) == (True, 1.0, ())
    assert not worse.on_front
    assert worse.share < 0.01
    assert worse.dominated_by == (0,)


def test_a_trade_keeps_both_on_the_front() -> None:
    results = front_membership([axis(0.1, 0.6), axis(0.6, 0.1)])
    assert all(result is not None and result.share > 0.99 for result in results)


def test_equal_variants_do_not_push_each_other_off() -> None:
    results = front_membership([axis(0.3, 0.3), axis(0.2, 0.2)])
    assert [result.share for result in results if result] == [1.0, 1.0]


def test_a_difference_of_one_case_is_no_certain_membership() -> None:
    """By point the second is beaten; in a third of the resamples the case that decides is missing."""
    _, beaten = front_membership([axis(0.5, 0.5), axis(0.5, 0.5 + 1 / CASES)])
    assert beaten is not None
    assert not beaten.on_front
    assert 0.3 < beaten.share < 0.45, "the chance that one of 60 cases is in no resample is 1/e"


def test_whole_clusters_are_resampled() -> None:
    """Ten cases that differ are ten clusters or one: the same points, another certainty."""
    wide = [axis(0.0, 1 / 6, cluster_size=1), axis(0.5, 0.5)]
    narrow = [axis(0.0, 1 / 6, cluster_size=10), axis(0.5, 0.5, cluster_size=10)]
    single, together = front_membership(wide)[1], front_membership(narrow)[1]
    assert single is not None
    assert together is not None
    assert single.on_front == together.on_front
    assert single.share < 0.01
    assert together.share > 0.25


def test_one_resample_is_drawn_for_all_variants() -> None:
    """The second refuses what the first refuses and one case more. Independent draws would often turn them round."""
    first, second = front_membership([axis(0.4, 0.5), axis(0.4, 0.5)])
    assert first is not None
    assert second is not None
    assert first.share == 1.0, "whatever is drawn, the first is never worse"


def test_a_variant_with_an_unknown_axis_is_neither_on_the_front_nor_dominates() -> None:
    unknown = AxisLabels(np.array([[np.nan] * 4, [1.0] * 4]), ("a", "b", "c", "d"))
    known = AxisLabels(np.zeros((2, 4)), ("a", "b", "c", "d"))
    results = front_membership([unknown, known])
    assert results[0] is None
    assert results[1] is not None
    assert results[1].share == 1.0


def test_unscored_cases_are_in_no_rate() -> None:
    labels = AxisLabels(np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan]]), ("a", "b", "c"))
    assert labels.rates()[0] == 0.5
    assert np.isnan(labels.rates()[1])


def test_a_third_axis_can_only_keep_more_on_the_front() -> None:
    two = [axis(0.1, 0.3), axis(0.1, 0.3)]
    three = front_membership([*two, axis(0.9, 0.1)])
    assert front_membership(two)[1] is not None
    assert [result.on_front for result in three if result] == [True, True]


def test_the_same_labels_give_the_same_membership() -> None:
    axes = [axis(0.3, 0.32, 0.28), axis(0.3, 0.28, 0.31)]
    assert front_membership(axes) == front_membership(axes)


@pytest.mark.parametrize("axes", [[], [axis(0.1, 0.2), axis(0.1)]])
def test_axes_over_other_variants_are_refused(axes: list[AxisLabels]) -> None:
    with pytest.raises(UsageError, match="expected axes over the same variants"):
        front_membership(axes)


def naive(axes: list[AxisLabels], resamples: int, seed: int) -> list[float]:
    """The same bootstrap, case by case: clusters are drawn with the same weights, everything else is spelt out."""
    names = sorted({name for part in axes for name in part.clusters})
    random = np.random.default_rng(seed)
    hits = [0] * len(axes[0].values)
    for _ in range(resamples):
        weights = dict(zip(names, random.multinomial(len(names), [1 / len(names)] * len(names)), strict=True))
        points = []
        for variant in range(len(axes[0].values)):
            point = []
            for part in axes:
                scored = [
                    (weights[cluster], value)
                    for cluster, value in zip(part.clusters, part.values[variant], strict=True)
                    if not np.isnan(value)
                ]
                total = sum(weight for weight, _ in scored)
                point.append(sum(weight * value for weight, value in scored) / total if total else None)
            points.append(point)
        for index, point in enumerate(points):
            if None in point:
                continue
            hits[index] += not any(
                None not in other
                and all(a <= b for a, b in zip(other, point, strict=True))
                and any(a < b for a, b in zip(other, point, strict=True))
                for other in points
            )
    return [hit / resamples for hit in hits]


@pytest.mark.parametrize("seed", range(4))
def test_shares_equal_those_of_a_plain_loop(seed: int) -> None:
    """Values are 0 and 1 and clusters are small, so sums are exact and both ways see the same ties."""
    random = np.random.default_rng(seed)
    axes = []
    for size in (14, 9):
        values = random.integers(0, 2, (3, size)).astype(float)
        values[random.random((3, size)) < 0.15] = np.nan
        axes.append(AxisLabels(values, tuple(f"c{i}" for i in random.integers(0, 8, size))))
    results = front_membership(axes, resamples=60, seed=seed)
    expected = naive(axes, 60, seed)
    for result, share in zip(results, expected, strict=True):
        if result is not None:
            assert result.share == pytest.approx(share)


def test_more_resamples_than_a_chunk_are_all_drawn() -> None:
    result = front_membership([axis(0.5), axis(0.5)], resamples=1234)[0]
    assert result is not None
    assert result.share == 1.0, "the share of all 1,234, not of a chunk"


def test_variants_measured_with_seeds_count_by_their_mean() -> None:
    values = np.array([[0.5] * 10, [1.0] * 10, [0.0] * 10])
    labels = AxisLabels(values, tuple(f"c{i}" for i in range(10)))
    results = front_membership([labels, labels])
    assert [result.on_front for result in results if result] == [False, False, True]
    assert results[1] is not None
    assert results[1].dominated_by == (0, 2)
