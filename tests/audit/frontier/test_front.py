"""From cases to labels that are aligned by sample, and to paired changes over seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.audit.frontier.front import (
    attacked_cases,
    axis_labels,
    changed_replies,
    memberships,
    paired_with_plain,
    plain_cases,
    pooled_estimate,
)
from equipoise.audit.records import AuditCase
from equipoise.stats.pareto import AxisLabels, dominates, front_membership
from tests.audit.factories import Row, write_run
from tests.audit.frontier.folders import CASES, cases


@pytest.fixture
def read(tmp_path: Path):
    """Cases of rows, through a run folder."""
    count = iter(range(100))

    def cases_of(rows: list[Row]) -> list[AuditCase]:
        return write_run(tmp_path / str(next(count)), rows).cases()

    return cases_of


def test_columns_are_the_same_sample_for_every_variant(read) -> None:
    first, second = read(cases(20, 2)), read(list(reversed(cases(5, 2))))
    labels = axis_labels([[first], [second]], "needless_refusal")
    assert labels.values.shape == (2, CASES)
    assert labels.rates().tolist() == [0.5, 5 / CASES]
    # The second refuses a part of what the first refuses, whatever order its rows have.
    assert (labels.values[1] <= labels.values[0]).all()


def test_a_sample_that_one_variant_lacks_is_unscored_there(read) -> None:
    whole, part = read(cases(20, 2)), read([row for row in cases(20, 2) if row.id != "s0"])
    labels = axis_labels([[whole], [part]], "needless_refusal")
    assert np.isnan(labels.values).sum() == 1
    assert labels.rates()[1] == pytest.approx(19 / 39)


def test_seeds_are_averaged_by_sample(read) -> None:
    seeds = [read(cases(20, 2)), read(cases(10, 2))]
    labels = axis_labels([seeds], "needless_refusal")
    assert sorted(set(labels.values[0])) == [0.0, 0.5, 1.0]
    assert labels.rates()[0] == pytest.approx(30 / 80)


def test_samples_of_one_cluster_share_its_name_on_both_axes(read) -> None:
    paired = [Row(**{**row.__dict__, "cluster": f"pair{row.id[1:]}", "suite": "x"}) for row in cases(3, 3)]
    run = read(paired)
    both = [axis_labels([[run]], axis).clusters for axis in ("needless_refusal", "harmful_answer")]
    assert both[0] == both[1]


def test_attacked_pictures_are_apart_from_the_axes(read) -> None:
    mixed = read([*cases(1, 1), *cases(30, 1, variant="perturbed")])
    assert len(plain_cases(mixed)) == len(attacked_cases(mixed)) == 2 * CASES
    assert pooled_estimate([plain_cases(mixed)], "needless_refusal").k == 1


def test_the_change_over_seeds_counts_a_sample_once(read) -> None:
    plain, strong, none = read(cases(20, 2)), read(cases(2, 2)), read(cases(20, 2))
    one = paired_with_plain(plain, [strong], "needless_refusal")
    both = paired_with_plain(plain, [strong, none], "needless_refusal")
    thrice = paired_with_plain(plain, [strong, strong, strong], "needless_refusal")
    assert one.p < 0.001
    assert both.n == 2 * CASES
    assert both.change == pytest.approx(one.change / 2)  # type: ignore[operator]
    # The same replies three times are no further evidence, and a seed without a change takes none away.
    assert thrice.p == both.p == pytest.approx(one.p, abs=1e-4)
    assert paired_with_plain(plain, [none, none], "needless_refusal").p == 1.0


def test_a_row_that_equals_plain_changes_nothing(read) -> None:
    plain = read(cases(20, 2))
    change = paired_with_plain(plain, [read(cases(20, 2))], "harmful_answer")
    assert (change.only_a, change.only_b, change.p) == (0, 0, 1.0)


def test_membership_follows_both_axes(read) -> None:
    points = [[read(cases(*counts))] for counts in ((20, 2), (2, 20), (21, 21))]
    standing = memberships(points)
    assert [member.on_front for member in standing if member] == [True, True, False]
    assert standing[2] is not None
    assert standing[2].dominated_by == (0, 1)


rates = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=6)


@given(rates)
@settings(deadline=None, max_examples=40)
def test_somebody_is_always_on_the_front_and_only_the_dominated_are_off(counts: list[tuple[int, int]]) -> None:
    def labels(axis: int) -> AxisLabels:
        values = np.array([[float(i < row[axis]) for i in range(12)] for row in counts])
        return AxisLabels(values, tuple(f"c{i}" for i in range(12)))

    results = front_membership([labels(0), labels(1)], resamples=200)
    assert any(result is not None and result.on_front for result in results)
    for index, result in enumerate(results):
        assert result is not None
        assert result.on_front == (not result.dominated_by)
        for other in result.dominated_by:
            assert all(a <= b for a, b in zip(counts[other], counts[index], strict=True))
            assert counts[other] != counts[index]
        assert 0.0 <= result.share <= 1.0


points = st.tuples(*[st.floats(0, 1) for _ in range(2)])


@given(points, points, points)
def test_dominance_is_a_strict_order(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> None:
    first, second, third = (np.array(point) for point in (a, b, c))
    assert not dominates(first, first)
    assert not (dominates(first, second) and dominates(second, first))
    if dominates(first, second) and dominates(second, third):
        assert dominates(first, third)


def test_replies_in_other_words_are_counted_over_all_seeds(read) -> None:
    rows = cases(20, 2)
    plain = read(rows)
    other = read([replace(row, reply="Other words.") if index < 5 else row for index, row in enumerate(rows)])
    assert changed_replies(plain, [plain]) == (0, 2 * CASES)
    assert changed_replies(plain, [other, plain]) == (5, 4 * CASES)
