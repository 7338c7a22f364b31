"""Comparisons: the right pairs, the right counts, and loud warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from equipoise.audit.comparison import compare, compare_variants
from equipoise.errors import UsageError
from tests.audit.factories import balanced, balanced_rows, recipe, rows, write_run

SAFE = rows(10, "s")
UNSAFE = rows(10, "u", suite="harmful", expected="refuse", refusal="full", category="weapons")


def test_a_change_is_counted_pair_by_pair(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [*SAFE, *UNSAFE])
    after = [replace(row, refusal="full") if index < 4 else row for index, row in enumerate(SAFE)]
    worse = [replace(row, harm="some", refusal="none") if index < 3 else row for index, row in enumerate(UNSAFE)]
    # The order in which samples were asked does not matter.
    b = write_run(tmp_path / "b", [*worse, *after][::-1])
    comparison = compare(a, b)
    needless, harmful = comparison.rates["needless_refusal"].all, comparison.rates["harmful_answer"].all
    assert (comparison.pairs, comparison.only_a, comparison.only_b, comparison.changed, comparison.other_content) == (
        20,
        0,
        0,
        0,
        0,
    )
    assert (needless.only_a, needless.only_b, needless.change) == (0, 4, 0.4)
    assert (harmful.only_a, harmful.only_b, harmful.change) == (0, 3, 0.3)
    assert comparison.rates["harmful_answer"].suites["harmful"].categories["weapons"].only_b == 3
    assert comparison.warnings == ()
    assert comparison.same_judge


def test_the_other_way_round_the_signs_turn(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", SAFE)
    b = write_run(tmp_path / "b", [replace(row, refusal="full") for row in SAFE])
    forth, back = compare(a, b).rates["needless_refusal"].all, compare(b, a).rates["needless_refusal"].all
    assert (forth.change, back.change) == (1.0, -1.0)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))


def test_a_run_against_itself_has_no_change(tmp_path: Path) -> None:
    run = balanced(tmp_path / "run")
    for rate in compare(run, run).rates.values():
        assert (rate.all.only_a, rate.all.only_b, rate.all.p) == (0, 0, 1.0)


def test_samples_of_one_side_and_samples_that_ask_something_else_are_left_out_and_counted(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [*SAFE, *rows(2, "old")])
    b = write_run(tmp_path / "b", [replace(SAFE[0], text="Something else?"), *SAFE[1:], *rows(3, "new")])
    comparison = compare(a, b)
    assert (comparison.pairs, comparison.only_a, comparison.only_b, comparison.changed) == (9, 2, 3, 1)
    assert comparison.rates["needless_refusal"].all.n == 9
    assert any("ask something else" in warning for warning in comparison.warnings)
    assert any("in one of the two alone" in warning for warning in comparison.warnings)


def test_another_picture_is_something_else_in_plain_and_the_point_of_a_perturbed_variant(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [replace(row, colour=(1, 2, 3)) for row in SAFE])
    b = write_run(tmp_path / "b", [replace(row, colour=(1, 2, 3 + (index < 2))) for index, row in enumerate(SAFE)])
    assert (compare(a, b).pairs, compare(a, b).changed) == (8, 2)
    run = balanced(tmp_path / "run")
    (comparison,) = compare_variants(run, run.cases())
    assert (comparison.pairs, comparison.other_content, comparison.only_a) == (72, 42, 10)
    assert comparison.rates["needless_refusal"].all.only_b == 24
    assert comparison.warnings == ()


def test_another_judge_is_said_loudly(tmp_path: Path) -> None:
    comparison = compare(
        write_run(tmp_path / "a", SAFE), write_run(tmp_path / "b", SAFE, given=recipe(judge="another"))
    )
    assert not comparison.same_judge
    assert "judges differ" in comparison.warnings[0]
    assert comparison.to_json()["same_judge"] is False


def test_an_unfinished_side_is_said(tmp_path: Path) -> None:
    b = write_run(tmp_path / "b", [replace(SAFE[0], sent=False), *SAFE[1:]])
    comparison = compare(write_run(tmp_path / "a", SAFE), b)
    assert any("b is unfinished" in warning for warning in comparison.warnings)
    assert comparison.rates["needless_refusal"].all.unscored == 1


def test_p_values_of_categories_are_corrected_together(tmp_path: Path) -> None:
    comparison = balanced_rows()
    plain = [row for row in comparison if row.variant == "plain"]
    a = write_run(tmp_path / "a", plain)
    b = write_run(tmp_path / "b", [replace(row, refusal="full") if row.suite == "safe" else row for row in plain])
    cells = compare(a, b).rates["needless_refusal"].suites["safe"].categories
    first, second = sorted(cells.values(), key=lambda cell: cell.p)
    assert first.p_adjusted == pytest.approx(2 * first.p)
    assert second.p_adjusted == pytest.approx(max(second.p, 2 * first.p))


def test_nothing_shared_is_refused(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", SAFE), write_run(tmp_path / "b", rows(3, "other"))
    with pytest.raises(UsageError, match=r"share samples .*, got none shared of 10 and 3"):
        compare(a, b)
    with pytest.raises(UsageError, match=r"a variant of the run \(plain\), got 'perturbed'"):
        compare(a, a, variant_b="perturbed")


def test_every_comparison_has_both_axes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", SAFE)
    comparison = compare(run, run).to_json()["rates"]
    assert comparison["needless_refusal"]["n"] == 10
    assert (comparison["harmful_answer"]["n"], comparison["harmful_answer"]["change"]) == (0, None)


@pytest.mark.parametrize(("variant", "pairs"), [("defended", 9), ("perturbed", 10)])
def test_one_variant_of_two_runs_has_to_have_asked_the_same(tmp_path: Path, variant: str, pairs: int) -> None:
    """Pictures that were attacked on another model differ by design; nothing else does."""
    both = [*SAFE, *(replace(row, variant=variant) for row in SAFE)]
    edited = [replace(row, text="something else") if row.id == SAFE[0].id else row for row in both]
    a, b = write_run(tmp_path / "a", both), write_run(tmp_path / "b", edited)
    comparison = compare(a, b, variant_a=variant, variant_b=variant)
    assert (comparison.pairs, comparison.changed) == (pairs, 10 - pairs)
