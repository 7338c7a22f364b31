"""Intervals and tests against their defining equations, and against other implementations."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from equipoise.errors import UsageError
from equipoise.stats.agreement import agree, cohen_kappa
from equipoise.stats.corrected_rates import correct_rate
from equipoise.stats.estimates import CaseLabel, estimate, holm, paired_change
from equipoise.stats.power import ComparisonDesign, samples_to_pass
from equipoise.stats.proportions import Rate
from equipoise.stats.thresholds import calibrate, clopper_pearson_lower, scores_needed

counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.floats(0.5, 0.999))
def test_the_ends_of_wilsons_interval_solve_its_equation(k_of_n: tuple[int, int], confidence: float) -> None:
    """Both ends are rates p with |k/n - p| = z sqrt(p (1 - p) / n)."""
    k, n = k_of_n
    rate = Rate.of(k, n, confidence=confidence)
    z = norm.ppf((1 + confidence) / 2)
    for end in (rate.low, rate.high):
        if 0 < end < 1:
            assert abs(k / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)
    assert rate.low <= k / n <= rate.high


@given(counts, st.integers(2, 5))
def test_more_cases_with_the_same_rate_narrow_the_interval(k_of_n: tuple[int, int], factor: int) -> None:
    k, n = k_of_n
    one, many = Rate.of(k, n), Rate.of(factor * k, factor * n)
    assert many.high - many.low < one.high - one.low


@given(counts, st.floats(0.5, 0.9))
def test_more_confidence_widens_the_interval(k_of_n: tuple[int, int], confidence: float) -> None:
    narrow, wide = (Rate.of(*k_of_n, confidence=value) for value in (confidence, confidence + 0.09))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(counts, st.floats(0.001, 0.4))
def test_the_lower_bound_solves_clopper_and_pearsons_equation(k_of_n: tuple[int, int], alpha: float) -> None:
    """At the bound p, k or more of n have the probability alpha."""
    k, n = k_of_n
    bound = clopper_pearson_lower(k, n, alpha)
    assert 0 <= bound <= k / n
    if k:
        assert binom.sf(k - 1, n, bound) == pytest.approx(alpha, rel=1e-6)
    else:
        assert bound == 0


@given(st.floats(0.005, 0.3), st.floats(0.5, 0.99))
def test_one_score_fewer_than_needed_is_too_few(rate: float, confidence: float) -> None:
    needed = scores_needed(rate, confidence)
    assert (1 - rate) ** needed <= (1 - confidence) * (1 + 1e-9)
    assert (1 - rate) ** (needed - 1) > (1 - confidence) * (1 - 1e-9)


@settings(max_examples=60)
@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=80),
    st.floats(0.02, 0.5),
    st.floats(0.5, 0.99),
)
def test_a_threshold_is_one_of_the_scores_and_keeps_its_promise(
    scores: list[float], rate: float, confidence: float
) -> None:
    threshold = calibrate(scores, rate, confidence=confidence)
    assert threshold.value in scores
    assert threshold.rate == pytest.approx(np.mean([score > threshold.value for score in scores]))
    assert threshold.rate <= threshold.bound
    if threshold.supported:
        assert threshold.bound <= rate
    else:
        assert threshold.value == max(scores)
        assert len(scores) < scores_needed(rate, confidence)


@given(st.lists(st.floats(-5, 5), min_size=30, max_size=60), st.floats(-2, 2), st.floats(0.1, 3))
def test_a_threshold_follows_a_change_of_units(scores: list[float], shift: float, scale: float) -> None:
    first = calibrate(scores, 0.2)
    second = calibrate([scale * score + shift for score in scores], 0.2)
    assert second.value == pytest.approx(scale * first.value + shift, abs=1e-9)
    assert second.bound == first.bound


@pytest.mark.parametrize(
    ("scores", "rate", "confidence"),
    [([], 0.1, 0.9), ([1.0], 0.0, 0.9), ([1.0], 1.0, 0.9), ([1.0], 0.1, 1.0), ([math.nan], 0.1, 0.9)],
)
def test_a_threshold_from_nothing_is_refused(scores: list[float], rate: float, confidence: float) -> None:
    with pytest.raises(UsageError, match="expected scores that are numbers"):
        calibrate(scores, rate, confidence=confidence)


def pairs(both: int, only_a: int, only_b: int, neither: int) -> list[tuple[CaseLabel, CaseLabel]]:
    """Independent pairs with these counts."""
    cells = [(True, True)] * both + [(True, False)] * only_a + [(False, True)] * only_b + [(False, False)] * neither
    return [(CaseLabel(a, str(i)), CaseLabel(b, str(i))) for i, (a, b) in enumerate(cells)]


cells = st.tuples(*[st.integers(0, 25)] * 4).filter(any)


@given(cells)
def test_mcnemars_p_is_the_two_sided_binomial_one(table: tuple[int, int, int, int]) -> None:
    _, only_a, only_b, _ = table
    discordant, smaller = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * binom.cdf(smaller, discordant, 0.5)) if discordant else 1.0
    assert paired_change(pairs(*table)).p == pytest.approx(expected)


@given(cells)
def test_the_interval_of_a_change_holds_it_and_stays_in_range(table: tuple[int, int, int, int]) -> None:
    change = paired_change(pairs(*table))
    assert change.change is not None
    assert -1 <= change.low <= change.change <= change.high <= 1
    assert change.low < change.high


@given(cells)
def test_naming_the_other_outcome_mirrors_a_change(table: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = table
    change, mirrored = paired_change(pairs(*table)), paired_change(pairs(neither, only_b, only_a, both))
    assert mirrored.change == pytest.approx(-change.change if change.change is not None else None)
    assert (mirrored.low, mirrored.high) == pytest.approx((-change.high, -change.low))
    assert mirrored.p == pytest.approx(change.p)


def test_newcombes_method_covers_the_truth_about_as_often_as_it_says() -> None:
    """By summation over all tables of 20 correlated pairs, not by simulation."""
    shares = {(True, True): 0.15, (True, False): 0.05, (False, True): 0.2, (False, False): 0.6}
    truth = 0.2 - 0.05
    n, covered = 20, 0.0
    log_factorials = [math.lgamma(i + 1) for i in range(n + 1)]
    for both, only_a, only_b in product(range(n + 1), repeat=3):
        neither = n - both - only_a - only_b
        if neither < 0:
            continue
        table = (both, only_a, only_b, neither)
        log_probability = log_factorials[n] - sum(log_factorials[count] for count in table)
        log_probability += sum(count * math.log(share) for count, share in zip(table, shares.values(), strict=True))
        if log_probability < -14:
            continue
        change = paired_change(pairs(*table))
        covered += math.exp(log_probability) * (change.low <= truth <= change.high)
    assert 0.93 < covered < 0.99


@given(st.dictionaries(st.integers(0, 20), cells, min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(tables: dict[int, tuple[int, int, int, int]]) -> None:
    changes = {name: paired_change(pairs(*table)) for name, table in tables.items()}
    corrected = holm(changes)
    assert corrected.keys() == changes.keys()
    ordered = sorted(corrected.values(), key=lambda change: change.p)
    adjusted = [change.p_adjusted or 0.0 for change in ordered]
    assert adjusted == sorted(adjusted)
    assert all(
        change.p <= value <= min(1.0, len(changes) * change.p + 1e-12)
        for change, value in zip(ordered, adjusted, strict=True)
    )
    assert adjusted[0] == pytest.approx(min(1.0, len(changes) * ordered[0].p))


labels = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@given(labels)
def test_kappa_is_that_of_scikit_learn(cases: list[tuple[bool, bool]]) -> None:
    from sklearn.metrics import cohen_kappa_score

    judged, reference = zip(*cases, strict=True)
    ours = agree(judged, reference, resamples=10).kappa
    assume(ours is not None)
    assert ours == pytest.approx(cohen_kappa_score(judged, reference, labels=[False, True]))


@given(st.tuples(*[st.integers(0, 50)] * 4))
def test_kappa_treats_both_raters_and_both_labels_alike(table: tuple[int, int, int, int]) -> None:
    tp, fp, fn, tn = table
    kappa = cohen_kappa(tp, fp, fn, tn)
    for other in (cohen_kappa(tp, fn, fp, tn), cohen_kappa(tn, fp, fn, tp)):
        assert other == (None if kappa is None else pytest.approx(kappa))
    assert kappa is None or -1 - 1e-12 <= kappa <= 1 + 1e-12


@settings(max_examples=25)
@given(st.floats(0, 1), st.floats(0.7, 1), st.floats(0.7, 1))
def test_correcting_what_a_judge_would_count_gives_the_true_rate(
    rate: float, sensitivity: float, specificity: float
) -> None:
    """With 10,000 cases the counts are the expected ones to within rounding."""
    n = 10_000
    counted = Rate.of(round(n * (rate * sensitivity + (1 - rate) * (1 - specificity))), n)
    corrected = correct_rate(counted, Rate.of(round(n * sensitivity), n), Rate.of(round(n * specificity), n))
    assert corrected.rate == pytest.approx(rate, abs=2e-3)
    assert corrected.low is not None
    assert corrected.high is not None
    assert corrected.low <= corrected.rate <= corrected.high


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 4)), max_size=25))
def test_the_order_of_cases_changes_no_estimate(cases: list[tuple[bool | None, int]]) -> None:
    content = [CaseLabel(value, str(cluster)) for value, cluster in cases]
    assert estimate(content) == estimate(reversed(content))


@given(st.lists(st.sampled_from([True, False, None]), max_size=40))
def test_unscored_cases_bound_the_rate_from_both_sides(values: list[bool | None]) -> None:
    result = estimate([CaseLabel(value, str(index)) for index, value in enumerate(values)])
    assert 0 <= result.least <= result.most <= 1
    if result.rate is not None:
        assert result.least <= result.rate <= result.most
    assert result.unscored_share == (values.count(None) / len(values) if values else 0.0)


@pytest.mark.parametrize(("rate", "difference"), [(0.1, 0.1), (0.3, -0.2), (0.5, 0.15)])
@pytest.mark.parametrize("paired", [False, True])
def test_the_least_difference_of_the_fewest_samples_is_the_difference(
    rate: float, difference: float, paired: bool
) -> None:
    design = ComparisonDesign(paired=paired)
    n = design.samples_for(rate, difference)
    assert design.power_of(n, rate, difference) >= 0.8
    if difference > 0:
        assert design.difference_for(n, rate) <= difference + 1e-3


def test_no_difference_is_shown_as_often_as_the_error_allows() -> None:
    """The exact test is conservative: its power without a change is at most alpha."""
    design = ComparisonDesign(paired=True, discordant=0.3, alpha=0.05)
    assert all(design.power_of(n, 0.3, 0.0) <= 0.05 for n in (5, 20, 50, 200))


def test_a_rate_at_its_limit_cannot_be_shown_to_keep_it() -> None:
    with pytest.raises(UsageError, match="rate below the limit"):
        samples_to_pass(0.1, 0.1)
    assert samples_to_pass(0.0, 0.05) > scores_needed(0.05, 0.95)
