"""Division by suites' own rules and by whole types; what is fitted on and what is reported on stay apart."""

from __future__ import annotations

import pytest

from equipoise.data.catalogue import Suite
from equipoise.data.split_registry import SplitRegistry, content_hash, split_by_types
from equipoise.data.splits import find_overlaps
from equipoise.errors import UsageError
from equipoise.types import Sample
from tests.audit.frontier.samples import planted_suite

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
    assert len(registry.tuning) == 36
    assert {s.category for s in registry.tuning} & {s.category for s in registry.test} == set()
    assert find_overlaps(registry.tuning, registry.test) == ()


def test_without_types_the_parts_are_those_of_the_suites_own_division() -> None:
    rows = samples(20)
    registry = split_by_types(rows, seed=1)
    assert len(registry.test) + len(registry.tuning) == len(rows)
    assert find_overlaps(registry.tuning, registry.test) == ()
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
        registry.require_apart("a pool", [Sample("0", "pool", "harmless", "answer"), row])
    assert why in str(raised.value)


def test_a_pool_of_other_types_and_of_development_samples_is_taken() -> None:
    registry = split_by_types(samples(), ["homonyms"])
    registry.require_apart("a pool", registry.tuning)
    registry.require_apart("a pool", [])
    registry.require_apart("a pool", [Sample("0", "pool", "harmless", "answer", category="own")])


@pytest.mark.parametrize("types", [["homonym"], list(TYPES)])
def test_types_that_leave_a_part_empty_or_do_not_exist_are_one_clear_error(types: list[str]) -> None:
    with pytest.raises(UsageError, match=LINE):
        split_by_types(samples(), types)


def test_no_samples_are_one_clear_error() -> None:
    with pytest.raises(UsageError, match=LINE):
        split_by_types([])


def test_the_parts_are_whole_and_apart() -> None:
    suite = planted_suite(60)
    registry = SplitRegistry.of([suite])
    parts = registry.parts
    assert {s.id for s in (*parts.selection, *parts.development, *parts.test)} == {s.id for s in suite.samples}
    assert registry.leaks(parts.selection) == ()
    assert sum(len(part.samples) for part in registry.test_suites) == len(parts.test)
    document = registry.to_json()
    assert document["suites"][0]["test"] == len(parts.test)
    assert document["test_sha256"] != document["selection_sha256"]


def test_another_seed_is_another_division() -> None:
    first, second = (SplitRegistry.of([planted_suite(60)], seed).to_json() for seed in (0, 1))
    assert first["test_sha256"] != second["test_sha256"]


def test_a_test_sample_is_recognised_by_its_wording_alone() -> None:
    registry = SplitRegistry.of([planted_suite(60)])
    copied = Sample("x", "elsewhere", registry.parts.test[0].text.upper() + "!", "answer")
    assert [overlap.kind for overlap in registry.leaks([copied])] == ["wording"]
    with pytest.raises(UsageError, match=r"expected surgical:x apart from the test split, got 1 related"):
        registry.require_apart("surgical:x", [copied])


def test_a_suite_without_a_test_part_is_refused() -> None:
    with pytest.raises(UsageError, match="expected samples in the test split, got none"):
        SplitRegistry.of([Suite("empty", (), "")])


def test_the_hash_of_content_sees_text_and_expectation() -> None:
    one, two = (Sample("a", "s", "w1", expected) for expected in ("answer", "refuse"))
    assert content_hash([one]) != content_hash([two])
    assert content_hash([one]) == content_hash([one])


def test_related_samples_of_two_suites_fall_into_one_part() -> None:
    suite = planted_suite(60)
    twin = Suite("twin", tuple(Sample(s.id, "twin", s.text, s.expected) for s in suite.samples), "")
    parts = SplitRegistry.of([suite, twin]).parts
    for part in (parts.selection, parts.development, parts.test):
        texts = [sample.text for sample in part]
        assert len(texts) == 2 * len(set(texts)), "every text is there from both suites"


def test_suites_that_are_for_tests_alone_give_nothing_to_fit_on() -> None:
    samples = tuple(Sample(str(i), "mossbench", f"w{i} w{i + 1} w{i + 2}", "answer") for i in range(30))
    parts = SplitRegistry.of([Suite("mossbench", samples, "")]).parts
    assert len(parts.test) == 30
    assert parts.selection == ()


def test_the_order_of_the_samples_changes_no_part() -> None:
    suite = planted_suite(60)
    turned = Suite("own", tuple(reversed(suite.samples)), "")
    first, second = (SplitRegistry.of([part]).parts.test for part in (suite, turned))
    assert {sample.id for sample in first} == {sample.id for sample in second}


def test_a_shared_picture_is_a_leak() -> None:
    from tests.audit.frontier.pictures import BytesPicture

    shared = BytesPicture(b"same bytes")
    samples = tuple(
        Sample(str(i), "own", f"w{i} w{i + 1}", "answer", pictures=(BytesPicture(str(i).encode()),)) for i in range(30)
    )
    divided = SplitRegistry.of([Suite("own", samples, "")])
    test = divided.parts.test[0]
    assert divided.leaks([Sample("x", "other", "anything else", "answer", pictures=test.pictures)])
    assert not divided.leaks([Sample("x", "other", "anything else", "answer", pictures=(shared,))])
