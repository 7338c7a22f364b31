"""Estimates and paired changes: known values, and what must hold for any labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from equipoise.stats.estimates import CaseLabel, PairedChange, estimate, holm, paired_change
from equipoise.stats.proportions import Rate

labels = st.lists(
    st.builds(
        CaseLabel,
        value=st.sampled_from([True, False, None]),
        cluster=st.sampled_from("abcdef"),
        review=st.booleans(),
    ),
    max_size=25,
)
few = settings(max_examples=40, deadline=None)


def alone(values: list[bool | None], review: bool = False) -> list[CaseLabel]:
    return [CaseLabel(value, str(index), review) for index, value in enumerate(values)]


def test_independent_labels_have_the_wilson_interval() -> None:
    result = estimate(alone([True] * 6 + [False] * 34 + [None] * 2))
    low, high = proportion_confint(6, 40, method="wilson")
    assert (result.n, result.k, result.unscored, result.clusters) == (40, 6, 2, 40)
    assert (result.low, result.high) == pytest.approx((low, high))
    assert (result.least, result.most) == (6 / 42, 8 / 42)
    assert result.to_dict()["rate"] == 0.15


def test_nothing_scored_is_nothing_known() -> None:
    for result in (estimate([]), estimate(alone([None, None]))):
        assert (result.n, result.rate, result.low, result.high) == (0, None, 0.0, 1.0)
        assert (result.least, result.most) == (0.0, 1.0)


@few
@given(labels)
def test_an_interval_holds_the_rate_and_both_readings_of_what_is_under_review(content: list[CaseLabel]) -> None:
    result = estimate(content)
    assert 0 <= result.low <= result.high <= 1
    assert result.n + result.unscored == len(content)
    if result.rate is None:
        return
    assert result.low <= result.rate <= result.high
    scored = [label for label in content if label.value is not None]
    for reading in (False, True):
        k = sum(reading if label.review else bool(label.value) for label in scored)
        wilson = Rate.of(k, len(scored))
        assert result.low <= wilson.low + 1e-12
        assert result.high >= wilson.high - 1e-12
    assert result.least <= result.rate <= result.most


def test_the_same_labels_give_the_same_interval() -> None:
    content = [CaseLabel(index % 3 == 0, str(index // 4)) for index in range(60)]
    assert estimate(content) == estimate(list(content))


def test_clusters_that_agree_widen_the_interval_and_clusters_of_chance_hardly_do() -> None:
    together = estimate([CaseLabel(cluster % 4 == 0, str(cluster)) for cluster in range(40) for _ in range(5)])
    wilson = Rate.of(50, 200)
    assert together.k == 50
    assert together.high - together.low > 1.8 * (wilson.high - wilson.low)  # in theory by sqrt(5)
    mixed = estimate([CaseLabel((7 * index) % 4 == 0, str(index // 5)) for index in range(200)])
    assert mixed.k == 50
    assert mixed.high - mixed.low == pytest.approx(wilson.high - wilson.low, rel=0.1)


@pytest.mark.parametrize("value", [True, False])
def test_replies_of_clusters_that_all_agree_are_worth_no_more_than_the_clusters(value: bool) -> None:
    result = estimate([CaseLabel(value, str(index // 10)) for index in range(40)])
    wilson = Rate.of(4 * value, 4)
    assert (result.low, result.high) == pytest.approx((wilson.low, wilson.high))
    assert (result.n, result.clusters) == (40, 4)


def test_one_reply_that_dissents_leaves_most_of_the_doubt() -> None:
    labels = [CaseLabel(index == 0, str(index // 15)) for index in range(60)]
    assert Rate.of(1, 60).high < 0.1
    assert estimate(labels).high > 0.25, "3 of 4 clusters tell nothing of how far their replies depend on each other"


@pytest.mark.parametrize(
    ("clusters", "size", "rate", "correlation"), [(10, 15, 0.1, 0.9), (10, 15, 0.1, 1.0), (4, 15, 0.3, 1.0)]
)
def test_the_interval_covers_the_rate_where_clusters_are_of_one_mind(
    clusters: int, size: int, rate: float, correlation: float
) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        own = rng.random(clusters) < rate
        follows = rng.random((clusters, size)) < correlation**0.5
        values = np.where(follows, own[:, None], rng.random((clusters, size)) < rate)
        result = estimate(CaseLabel(bool(v), str(c)) for c, row in enumerate(values) for v in row)
        covered += result.low <= rate <= result.high
    assert covered >= 93


def test_a_change_of_whole_clusters_is_as_uncertain_as_that_of_so_many_pairs() -> None:
    cells = [(True, True)] * 3 + [(False, True)] * 2 + [(False, False)] * 5
    once = paired_change((CaseLabel(a, str(i)), CaseLabel(b, str(i))) for i, (a, b) in enumerate(cells))
    often = paired_change(
        (CaseLabel(a, str(i)), CaseLabel(b, str(i))) for i, (a, b) in enumerate(cells) for _ in range(20)
    )
    assert often.change == once.change
    assert often.low == pytest.approx(once.low)
    assert often.high >= once.high - 1e-9
    still = paired_change((CaseLabel(True, str(i)), CaseLabel(True, str(i))) for i in range(4) for _ in range(20))
    alone = paired_change((CaseLabel(True, str(i)), CaseLabel(True, str(i))) for i in range(4))
    assert (still.low, still.high) == pytest.approx((alone.low, alone.high))


def pairs(both: int, only_a: int, only_b: int, neither: int) -> list[tuple[CaseLabel, CaseLabel]]:
    cells = [(True, True)] * both + [(True, False)] * only_a + [(False, True)] * only_b + [(False, False)] * neither
    return [(CaseLabel(a, str(index)), CaseLabel(b, str(index))) for index, (a, b) in enumerate(cells)]


def test_a_paired_change_has_the_published_interval_and_p_value() -> None:
    # Airway hyper-responsiveness before and after transplantation, as worked through by Fagerland, Lydersen and
    # Laake (2014), BMC Medical Research Methodology: square-and-add interval 0.026 to 0.507 (in size).
    result = paired_change(pairs(1, 1, 7, 12))
    assert (result.n, result.both, result.only_a, result.only_b, result.neither) == (21, 1, 1, 7, 12)
    assert result.change == pytest.approx(6 / 21)
    assert (round(result.low, 3), round(result.high, 3)) == (0.026, 0.507)
    assert result.p == pytest.approx(0.0703, abs=5e-5)  # 2 * P(X <= 1), X binomial(8, 1/2)


def test_no_pairs_are_no_change() -> None:
    result = paired_change([(CaseLabel(None, "x"), CaseLabel(True, "x"))])
    assert (result.n, result.unscored, result.change, result.low, result.high, result.p) == (0, 1, None, -1.0, 1.0, 1.0)
    assert result.rate_a is None
    assert result.to_dict()["rate_b"] is None


@few
@given(st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 2, st.sampled_from("abcd"), st.booleans())))
def test_swapping_the_sides_turns_the_change_round(content: list[tuple[bool | None, bool | None, str, bool]]) -> None:
    forth = paired_change((CaseLabel(a, cluster, review), CaseLabel(b, cluster)) for a, b, cluster, review in content)
    back = paired_change((CaseLabel(b, cluster), CaseLabel(a, cluster, review)) for a, b, cluster, review in content)
    assert forth.p == back.p
    assert (forth.only_a, forth.only_b, forth.unscored) == (back.only_b, back.only_a, back.unscored)
    # The bootstrap draws other resamples of the mirrored clusters, so that its ends agree to its own precision.
    assert forth.low == pytest.approx(-back.high, abs=0.05)
    assert -1 <= forth.low <= forth.high <= 1
    if forth.change is not None and back.change is not None:
        assert forth.change == -back.change
        assert forth.low <= forth.change <= forth.high


def test_equal_sides_have_no_change_but_a_width() -> None:
    result = paired_change(pairs(5, 0, 0, 25))
    assert result.change == 0
    assert result.p == 1
    assert result.low < 0 < result.high


def test_labels_under_review_widen_a_change() -> None:
    sure = pairs(5, 3, 3, 29)
    doubtful = [(a, CaseLabel(b.value, b.cluster, index < 4)) for index, (a, b) in enumerate(sure)]
    assert paired_change(doubtful).low < paired_change(sure).low
    assert paired_change(doubtful).change == paired_change(sure).change
    assert paired_change(doubtful).review == 4


def test_a_doubt_about_the_same_reply_is_the_same_before_and_after() -> None:
    def doubtful(count: int, replies: tuple[str, str]) -> PairedChange:
        labels = [(index < 20, str(index), index % 3 == 0) for index in range(60)]
        return paired_change(tuple(CaseLabel(*label, reply) for reply in replies) for label in labels[:count])  # type: ignore[misc]

    same, unlike, unknown = (doubtful(60, replies) for replies in (("r", "r"), ("r", "s"), ("", "")))
    assert same.change == unlike.change == 0
    assert same.review == unlike.review == 20, "they are still counted"
    assert (same.low, same.high) == (paired_change(pairs(20, 0, 0, 40)).low, paired_change(pairs(20, 0, 0, 40)).high)
    assert unlike.high > 0.3
    assert unknown.high == unlike.high


def test_a_reply_that_a_judge_labels_in_two_ways_stays_a_doubt() -> None:
    def labelled(review: bool) -> PairedChange:
        values = [(index < 10, True) for index in range(20)]
        return paired_change(
            (CaseLabel(a, str(index), review, "r"), CaseLabel(b, str(index), review, "r"))
            for index, (a, b) in enumerate(values)
        )

    assert labelled(True).low < labelled(False).low


def test_holm_corrects_over_the_cells_that_have_pairs() -> None:
    cells = {
        "small": paired_change(pairs(0, 0, 8, 10)),
        "none": paired_change([]),
        "middle": paired_change(pairs(0, 1, 8, 10)),
        "large": paired_change(pairs(0, 4, 5, 10)),
    }
    result = holm(cells)
    assert list(result) == list(cells)
    assert result["none"].p_adjusted is None
    assert result["small"].p_adjusted == pytest.approx(3 * cells["small"].p)
    assert result["middle"].p_adjusted == pytest.approx(2 * cells["middle"].p)
    assert result["large"].p_adjusted == pytest.approx(1)
    assert holm({"none": paired_change([])})["none"] == PairedChange(0, 0, 0, 0, 0, None, -1.0, 1.0, 1.0)


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    values = [*rng.uniform(0, 0.1, 8), *rng.uniform(0, 1, 8), 0.0, 1.0, 0.01, 0.01]
    cells = {index: replace(paired_change(pairs(0, 0, 8, 10)), p=p) for index, p in enumerate(values)}
    adjusted = [cell.p_adjusted for cell in holm(cells).values()]
    assert adjusted == pytest.approx(list(multipletests(values, method="holm")[1]))
