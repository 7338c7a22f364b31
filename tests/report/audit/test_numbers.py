from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.report.audit.numbers import ShownRate, change, percent, probability
from equipoise.report.audit.untrusted_text import excerpt, plain, visible
from equipoise.stats.proportions import Rate


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_only_none_looks_like_none_and_only_all_like_all(counts: tuple[int, int]):
    k, n = counts
    assert (percent(k / n) == "0.0\u00a0%") == (k == 0)
    assert (percent(k / n) == "100.0\u00a0%") == (k == n)


def test_a_rate_reads_as_people_write_it():
    rate = Rate.of(12, 200)
    number = ShownRate.read({"k": 12, "n": 200, "rate": 0.06, "low": rate.low, "high": rate.high, "unscored": 3})
    assert (number.percent, number.interval) == ("6.0\u00a0%", "3.5–10.2\u00a0%")
    assert (number.counts, number.beside) == ("12 of 200", "3 unscored, 0 in review")


@pytest.mark.parametrize("odd", [None, {}, [], "0.5", {"rate": math.nan, "low": math.inf, "n": "many", "k": True}])
def test_what_is_no_estimate_is_the_rate_of_no_cases(odd: object):
    assert ShownRate.read(odd) == ShownRate(0, 0, None, 0.0, 1.0, 0, 0)
    assert ShownRate.read(odd).percent == "unknown"


def test_changes_carry_their_sign():
    assert [change(value) for value in (0.125, -0.5, 0.0, None)] == [
        "+12.5\u00a0points",
        "−50.0\u00a0points",
        "±0.0\u00a0points",
        "unknown",
    ]


def test_small_p_values_are_not_zero():
    assert probability(0.0) == probability(0.0009) == "p\u00a0<\u00a00.001"
    assert probability(0.0131) == "p\u00a0=\u00a00.013"


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
