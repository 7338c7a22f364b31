from __future__ import annotations

import pytest

from equipoise.errors import UsageError
from equipoise.stats.agreement import agree, cohen_kappa


def test_kappa_equals_values_worked_by_hand():
    # Observed 35/50 = 0.7; chance (25*30 + 25*20)/2500 = 0.5; so 0.2/0.5.
    assert cohen_kappa(20, 5, 10, 15) == pytest.approx(0.4)
    # Observed 0.6, chance (60*70 + 40*30)/10000 = 0.54; so 0.06/0.46.
    assert cohen_kappa(45, 15, 25, 15) == pytest.approx(0.06 / 0.46)


def test_kappa_is_one_zero_and_minus_one_where_it_should_be():
    assert cohen_kappa(3, 0, 0, 7) == 1
    assert cohen_kappa(25, 25, 25, 25) == 0
    assert cohen_kappa(0, 5, 5, 0) == -1


def test_kappa_is_undefined_when_only_one_label_is_used():
    assert cohen_kappa(9, 0, 0, 0) is None
    assert cohen_kappa(0, 0, 0, 0) is None


def test_a_judge_that_always_says_no_has_no_agreement_beyond_chance():
    result = agree([False] * 10, [True] * 4 + [False] * 6)
    assert result.kappa == 0
    assert result.sensitivity.rate == 0
    assert result.specificity.rate == 1


def test_abstentions_are_counted_and_change_nothing_else():
    judged: list[bool | None] = [True, True, False, False, True]
    truth = [True, False, True, False, True]
    plain = agree(judged, truth)
    with_gaps = agree([*judged, None, None], [*truth, True, False])
    assert with_gaps.unscored == 2
    assert with_gaps.n == plain.n == 5
    assert with_gaps.kappa == plain.kappa
    assert with_gaps.sensitivity == plain.sensitivity


def test_interval_holds_kappa_shrinks_with_n_and_repeats_with_the_seed():
    truth = [True, True, True, False, False, False, False, False]
    judged = [True, True, False, False, False, False, False, True]
    few, many = agree(judged * 3, truth * 3), agree(judged * 100, truth * 100)
    assert few.low < few.kappa < few.high
    assert many.high - many.low < few.high - few.low
    assert few.kappa == pytest.approx(many.kappa)
    assert agree(judged, truth, seed=3) == agree(judged, truth, seed=3)


def test_bootstrap_interval_agrees_with_the_large_sample_formula():
    # Fleiss, Cohen and Everitt 1969 give a standard error of 0.04016 for these counts.
    judged = [True] * 250 + [False] * 250
    truth = [True] * 200 + [False] * 50 + [True] * 100 + [False] * 150
    result = agree(judged, truth)
    assert result.kappa == pytest.approx(0.4)
    assert (result.high - result.low) / (2 * 1.96) == pytest.approx(0.04016, abs=0.001)


def test_replies_to_one_prompt_widen_the_interval_when_they_go_together():
    truth = [True, False] * 60
    judged = [True, False, False, True, True, False] * 20
    alone = agree(judged, truth)
    ten_to_a_prompt = agree(judged, truth, groups=[f"prompt {index % 6 // 2} {index // 60}" for index in range(120)])
    assert ten_to_a_prompt.kappa == alone.kappa
    assert ten_to_a_prompt.high - ten_to_a_prompt.low > 1.5 * (alone.high - alone.low)


def test_nothing_scored_gives_no_kappa():
    result = agree([None, None], [True, False])
    assert (result.kappa, result.low, result.high, result.unscored) == (None, None, None, 2)


def test_unpaired_labels_are_refused():
    with pytest.raises(UsageError, match="expected as many"):
        agree([True], [True, False])
