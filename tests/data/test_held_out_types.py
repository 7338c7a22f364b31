"""Division by whole types, and the refusal of rows that are related to a test sample."""

from __future__ import annotations

import pytest

from equipoise.data.held_out_types import SplitRegistry, split_by_types
from equipoise.data.splits import find_overlaps
from equipoise.errors import UsageError
from equipoise.types import Sample

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
TYPES = ("homonyms", "figurative", "targets", "history")


def samples(count: int = 6) -> list[Sample]:
    """Each type has contrasts, which share the clusters of its safe prompts."""
    rows = []
    for kind in TYPES:
        for i in range(count):
            cluster = f"{kind}-{i}"
            rows.append(
                Sample(f"{cluster}-safe", "s", f"safe {kind} number {i}", "answer", category=kind, cluster=cluster)
            )
            contrast = Sample(
                f"{cluster}-unsafe", "s", f"unsafe {kind} {i}", "refuse", category=f"contrast_{kind}", cluster=cluster
            )
            rows.append(contrast)
    return rows


def test_a_type_is_held_out_whole_together_with_its_contrasts() -> None:
    registry = split_by_types(samples(), ["homonyms"])
    assert registry.held_out == ("contrast_homonyms", "homonyms")
    assert len(registry.test) == 12
    assert len(registry.development) == 36
    assert {s.category for s in registry.development} & {s.category for s in registry.test} == set()
    assert find_overlaps(registry.development, registry.test) == ()


def test_without_types_the_parts_are_those_of_the_suites_own_division() -> None:
    rows = samples(20)
    registry = split_by_types(rows, seed=1)
    assert len(registry.test) + len(registry.development) == len(rows)
    assert find_overlaps(registry.development, registry.test) == ()
    assert split_by_types(list(reversed(rows)), seed=1).sha256 != ""
    assert set(split_by_types(list(reversed(rows)), seed=1).test) == set(registry.test)


def test_samples_that_share_words_with_a_held_out_type_go_with_it() -> None:
    rows = samples()
    twin = Sample("twin", "t", rows[0].text.upper() + "!", "answer", category="other")
    registry = split_by_types([*rows, twin], ["homonyms"])
    assert twin in registry.test


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (Sample("1", "pool", "Safe homonyms number 3.", "answer"), "wording"),
        (Sample("1", "pool", "something new", "answer", category="homonyms"), "homonyms"),
        (Sample("1", "s", "something new", "answer", cluster="homonyms-2"), "cluster"),
    ],
)
def test_a_pool_that_holds_test_rows_is_refused(row: Sample, why: str) -> None:
    registry = split_by_types(samples(), ["homonyms"])
    with pytest.raises(UsageError, match=LINE) as raised:
        registry.check_pool([Sample("0", "pool", "harmless", "answer"), row], "a pool")
    assert why in str(raised.value)


def test_a_pool_of_other_types_and_of_development_samples_is_taken() -> None:
    registry = split_by_types(samples(), ["homonyms"])
    registry.check_pool(registry.development, "a pool")
    registry.check_pool([], "a pool")
    registry.check_pool([Sample("0", "pool", "harmless", "answer", category="own")], "a pool")


@pytest.mark.parametrize("types", [["homonym"], list(TYPES)])
def test_types_that_leave_a_part_empty_or_do_not_exist_are_one_clear_error(types: list[str]) -> None:
    with pytest.raises(UsageError, match=LINE):
        split_by_types(samples(), types)


def test_no_samples_are_one_clear_error() -> None:
    with pytest.raises(UsageError, match=LINE):
        split_by_types([])
    assert SplitRegistry((), (), ()).sha256 == SplitRegistry((), (), ()).sha256
