"""Power: known values, exactness against simulation, and that forth and back agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from equipoise.errors import UsageError
from equipoise.stats.power import ComparisonDesign, samples_to_pass
from equipoise.stats.proportions import Rate


def test_unpaired_samples_agree_with_cohen() -> None:
    # Cohen 1988, table 6.4.1: effect size h = 0.20, power 0.80, two-sided 0.05: 392 a group.
    h = 0.20
    other = float(np.sin(np.arcsin(np.sqrt(0.5)) + h / 2) ** 2)
    assert ComparisonDesign().samples_for(0.5, other - 0.5) == pytest.approx(392, abs=1)


def test_the_power_of_mcnemars_test_is_that_of_a_simulation() -> None:
    n, difference, discordant = 120, 0.1, 0.2
    rng = np.random.default_rng(0)
    only_b, only_a = (discordant + difference) / 2, (discordant - difference) / 2
    draws = rng.multinomial(n, [only_a, only_b, 1 - discordant], size=4000)
    cells, copies = np.unique(draws[:, :2], axis=0, return_counts=True)
    rejected = [binomtest(int(a), int(a + b)).pvalue <= 0.05 if a + b else False for a, b in cells]
    simulated = float(np.dot(rejected, copies) / 4000)
    exact = ComparisonDesign(paired=True, discordant=discordant).power_of(n, 0.1, difference)
    assert exact == pytest.approx(simulated, abs=3.5 * (0.25 / 4000) ** 0.5)


@pytest.mark.parametrize(
    "design", [ComparisonDesign(), ComparisonDesign(paired=True), ComparisonDesign(paired=True, discordant=0.08)]
)
def test_the_answer_has_the_power_and_a_little_less_has_not(design: ComparisonDesign) -> None:
    n = design.samples_for(0.05, 0.04)
    assert design.power_of(n, 0.05, 0.04) >= 0.8
    assert design.power_of(int(0.95 * n), 0.05, 0.04) < 0.8
    assert design.difference_for(n, 0.05) == pytest.approx(0.04, abs=0.002)


def test_pairs_that_mostly_agree_need_fewer_samples() -> None:
    assert ComparisonDesign(paired=True, discordant=0.05).samples_for(
        0.05, 0.03
    ) < 0.6 * ComparisonDesign().samples_for(0.05, 0.03)


@pytest.mark.parametrize(("rate", "discordant"), [(0.05, 0.2), (0.05, 0.15), (0.02, 0.3), (0.3, 0.5), (0.7, 0.4)])
@pytest.mark.parametrize("n", [40, 72, 300])
def test_a_share_of_discordant_pairs_that_small_changes_cannot_have_leaves_larger_ones(
    rate: float, discordant: float, n: int
) -> None:
    design = ComparisonDesign(paired=True, discordant=discordant)
    least = max(discordant - 2 * rate, 0.0)
    assert design.least_difference(rate) == pytest.approx(least)
    most = min(1 - rate, discordant, 2 - 2 * rate - discordant)
    if design.power_of(n, rate, most) < 0.8:
        with pytest.raises(UsageError, match="expected enough samples"):
            design.difference_for(n, rate)
        return
    shown = design.difference_for(n, rate)
    assert least - 1e-9 <= shown <= most
    assert design.power_of(n, rate, shown) >= 0.8 - 1e-3
    assert shown == pytest.approx(max(least, 1e-9)) or design.power_of(n, rate, shown - 1e-3) < 0.8


def test_forth_and_back_agree_with_a_share_of_discordant_pairs() -> None:
    design = ComparisonDesign(paired=True, discordant=0.2)
    n = design.samples_for(0.05, 0.15)
    assert n == 72
    assert design.difference_for(n, 0.05) <= 0.15 + 1e-4
    assert design.difference_for(300, 0.05) == pytest.approx(0.1), "no smaller change has as many discordant pairs"


def test_a_power_below_alpha_needs_no_change() -> None:
    assert ComparisonDesign(power=0.01).difference_for(300, 0.05) == pytest.approx(0, abs=1e-6)


def test_a_decrease_can_be_asked_for() -> None:
    assert ComparisonDesign().samples_for(0.08, -0.03) == ComparisonDesign().samples_for(0.05, 0.03)


@pytest.mark.parametrize(("rate", "limit"), [(0.0, 0.05), (0.02, 0.05), (0.3, 0.4)])
def test_samples_to_pass_pass_with_that_probability(rate: float, limit: float) -> None:
    n = samples_to_pass(rate, limit)
    passing = sum(float(binom.pmf(k, n, rate)) for k in range(n + 1) if Rate.of(k, n).high <= limit)
    assert passing >= 0.8
    fewer = int(0.9 * n) - 1
    assert sum(float(binom.pmf(k, fewer, rate)) for k in range(fewer + 1) if Rate.of(k, fewer).high <= limit) < 0.8


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ComparisonDesign().samples_for(0.05, 0.0),
        lambda: ComparisonDesign().samples_for(0.05, 0.97),
        lambda: ComparisonDesign().samples_for(-0.1, 0.2),
        lambda: ComparisonDesign().samples_for(float("nan"), 0.2),
        lambda: ComparisonDesign().samples_for(0.5, 1e-7),
        lambda: ComparisonDesign().difference_for(0, 0.05),
        lambda: ComparisonDesign().difference_for(2, 0.05),
        lambda: ComparisonDesign().difference_for(300, 1.0),
        lambda: ComparisonDesign(power=1.0),
        lambda: ComparisonDesign(alpha=0.0),
        lambda: ComparisonDesign(discordant=0.1),
        lambda: ComparisonDesign(paired=True, discordant=-1.0),
        lambda: ComparisonDesign(paired=True, discordant=1.5),
        lambda: ComparisonDesign(paired=True, discordant=float("nan")),
        lambda: ComparisonDesign(paired=True, discordant=0.9).difference_for(300, 0.7),
        lambda: ComparisonDesign(paired=True, discordant=0.0).difference_for(300, 0.7),
        lambda: ComparisonDesign(paired=True, discordant=0.01).samples_for(0.05, 0.03),
        lambda: ComparisonDesign(paired=True, discordant=0.5).samples_for(0.05, 0.03),
        lambda: samples_to_pass(0.05, 0.05),
        lambda: samples_to_pass(0.05, 1.5),
    ],
)
def test_what_cannot_be_is_one_clear_error(ask: object) -> None:
    with pytest.raises(UsageError, match=r"expected .*, got .*; try "):
        ask()  # type: ignore[operator]
