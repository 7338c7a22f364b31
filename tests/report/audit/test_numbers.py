from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from equipoise.report.audit.numbers import (
    cases,
    counts,
    interval,
    percent,
    points,
    points_range,
    probability,
    share,
    uncertain,
)
from equipoise.report.audit.untrusted_text import excerpt, plain, visible
from equipoise.stats.estimates import Estimate
from equipoise.stats.proportions import Rate


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_only_none_looks_like_none_and_only_all_like_all(counts: tuple[int, int]):
    k, n = counts
    assert (percent(k / n) == "0.0\u00a0%") == (k == 0)
    assert (percent(k / n) == "100.0\u00a0%") == (k == n)


def test_a_rate_reads_as_people_write_it():
    rate = Rate.of(12, 200)
    estimate = Estimate(12, 200, 0.06, rate.low, rate.high, unscored=3, review=4)
    assert (percent(estimate.rate), interval(estimate)) == ("6.0\u00a0%", "3.5–10.2\u00a0%")
    assert (counts(estimate), uncertain(estimate), cases(estimate)) == ("12 of 200", "3 unscored, 4 in review", 203)


def test_the_rate_of_no_case_is_unknown_and_its_interval_is_everything():
    assert percent(None) == "unknown"
    assert interval(Rate.of(0, 0)) == "0.0–100.0\u00a0%"


def test_changes_carry_their_sign():
    assert [points(value) for value in (0.125, -0.5, 0.0, None)] == [
        "+12.5\u00a0points",
        "−50.0\u00a0points",
        "0.0\u00a0points",
        "unknown",
    ]
    assert points_range(-0.02, 0.125) == "−2.0 to +12.5"


def test_small_p_values_are_not_zero():
    assert probability(0.0) == probability(0.0009) == "p\u00a0<\u00a00.001"
    assert probability(0.0131) == "p\u00a0=\u00a00.013"


def test_an_unknown_share_is_not_zero():
    assert (share(None), share(0.97), share(0.0)) == ("unknown", "0.970", "0.000")


@given(st.text(st.characters(), max_size=200))
def test_visible_text_can_be_written_and_steers_nothing(text: str):
    shown = visible(text)
    shown.encode("utf-8")
    assert not set(shown) & {chr(code) for code in (*range(9), 11, 12, 13, *range(14, 32), *range(0x7F, 0xA0))}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert visible(shown) == shown


def test_an_excerpt_knows_how_long_the_text_was():
    assert excerpt("abc", 3).is_cut is False
    assert (excerpt("abcd", 3).text, excerpt("abcd", 3).length, excerpt("abcd", 3).is_cut) == ("abc", 4, True)


def test_values_of_a_recipe_in_one_line():
    assert plain({"epsilon": 8 / 255, "steps": 3, "eot": [], "on": True}) == "epsilon 8/255, steps 3, eot none, on yes"
