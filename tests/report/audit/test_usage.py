from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.records import AuditCase
from equipoise.audit.summary import summarise
from equipoise.errors import UsageError
from equipoise.report.audit.corrections import PageOptions
from equipoise.report.audit.numbers import amount, seconds
from equipoise.report.audit.page import render
from equipoise.report.audit.usage import RunUsage, TokenPrice, _quantile
from tests.audit.factories import Row, rows, write_run
from tests.report.audit.reading import by_id, read


def with_usage(case: AuditCase, took: float, tokens: tuple[int, int] | None) -> AuditCase:
    assert case.reply is not None
    given, got = tokens or (None, None)
    return replace(case, reply=replace(case.reply, seconds=took, input_tokens=given, output_tokens=got))


def test_tokens_times_and_cost_are_added_up(tmp_path: Path) -> None:
    cases = write_run(tmp_path, rows(4, "a")).cases()
    tokens = [(1000, 10), (3000, 30), None, (1000, 60)]
    cases = [with_usage(case, index + 1.0, pair) for index, (case, pair) in enumerate(zip(cases, tokens, strict=True))]
    usage = RunUsage.of(cases, TokenPrice(2.0, 10.0))
    assert (usage.replies, usage.counted) == (4, 3)
    assert (usage.input_tokens, usage.output_tokens) == (5000, 100)
    assert usage.cost == pytest.approx(0.011)
    assert (usage.median, usage.slow, usage.total) == (2.0, 4.0, 10.0)
    assert RunUsage.of(cases).cost is None


def test_what_nobody_counted_is_unknown_and_failures_take_no_time(tmp_path: Path) -> None:
    usage = RunUsage.of(write_run(tmp_path, [Row(id="a", error="down")]).cases(), TokenPrice(1, 1))
    assert (usage.replies, usage.median, usage.cost, usage.counted) == (1, None, None, 0)


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_value_that_holds_its_share(values: list[float], share: float) -> None:
    ordered = sorted(values)
    smallest = _quantile(ordered, share)
    assert smallest is not None
    assert sum(value <= smallest for value in ordered) >= share * len(ordered)
    smaller = [value for value in ordered if value < smallest]
    assert len(smaller) < share * len(ordered)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1"])
def test_a_price_that_is_none_is_one_clear_error(text: str) -> None:
    with pytest.raises(UsageError, match="expected the prices of a million tokens"):
        TokenPrice.parse(text)


def test_a_price_is_two_numbers() -> None:
    assert TokenPrice.parse("2.50, 10") == TokenPrice(2.5, 10.0)


def test_times_and_amounts_have_digits_that_count() -> None:
    assert [seconds(value).replace("\u00a0", " ") for value in (None, 0.984, 12.3, 300, 9000)] == [
        "unknown",
        "0.98 s",
        "12 s",
        "5 min",
        "2.5 h",
    ]
    assert [amount(value) for value in (0, 0.0031, 12.4, 1234.5)] == ["0.00", "0.0031", "12.40", "1,234.50"]


def test_the_page_says_what_the_run_took(tmp_path: Path) -> None:
    run = write_run(tmp_path, rows(4, "a"))
    words = by_id(read(render(run, summarise(run))), "usage").words
    assert "plain 4 0.01 s 0.01 s 0.04 s nobody counted" in words
    assert "--price IN,OUT" in words
    priced = by_id(read(render(run, summarise(run), options=PageOptions(price=TokenPrice(1, 2)))), "usage").words
    assert "At 1 and 2 for a million tokens" in priced
