"""Taking fewer samples."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.catalogue import load_suite
from equipoise.data.subset import choose_subset
from equipoise.types import Sample

SUITES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["answer", "refuse", "borderline"]), st.integers(0, 12)),
    min_size=1,
    max_size=40,
).map(
    lambda rows: [
        Sample(str(n), "s", f"text {n}", expected, category=category, cluster=f"c{cluster}")
        for n, (category, expected, cluster) in enumerate(rows)
    ]
)


@given(SUITES, st.integers(1, 50), st.integers(0, 50), st.integers(0, 3))
def test_a_smaller_choice_is_part_of_a_larger_one_and_both_are_exact(samples, limit, more, seed):
    small, large = choose_subset(samples, limit, seed=seed), choose_subset(samples, limit + more, seed=seed)
    assert len(small) == min(limit, len(samples))
    assert {sample.id for sample in small} <= {sample.id for sample in large}
    assert small == [sample for sample in samples if sample in small]


@given(SUITES, st.integers(1, 40), st.integers(0, 3))
def test_at_most_one_contrast_pair_is_cut(samples, limit, seed):
    whole = Counter(sample.cluster for sample in samples)
    expectations = defaultdict(set)
    for sample in samples:
        expectations[sample.cluster].add(sample.expected)
    chosen = Counter(sample.cluster for sample in choose_subset(samples, limit, seed=seed))
    mixed = [name for name in chosen if len(expectations[name]) > 1]
    assert sum(chosen[name] < whole[name] for name in mixed) <= 1


@given(SUITES, st.integers(1, 40))
def test_the_order_of_a_file_makes_no_difference(samples, limit):
    there = {sample.id for sample in choose_subset(samples, limit)}
    back = {sample.id for sample in choose_subset(samples[::-1], limit)}
    # Members of a mixed cluster keep their order, so the one that is cut may be cut elsewhere.
    assert len(there ^ back) <= 2 * max(Counter(sample.cluster for sample in samples).values())


def test_shares_are_those_of_the_whole():
    samples = [Sample(str(n), "s", "t", "answer" if n < 300 else "refuse", category="c") for n in range(400)]
    assert Counter(sample.expected for sample in choose_subset(samples, 40)) == {"answer": 30, "refuse": 10}


def test_pictures_are_spread_before_they_are_asked_again():
    samples = [Sample(f"{p}-{q}", "s", "t", "answer", cluster=f"p{p}") for p in range(20) for q in range(10)]
    assert len({sample.cluster for sample in choose_subset(samples, 20)}) == 20


def test_another_seed_is_another_choice():
    samples = [Sample(str(n), "s", "t", "answer") for n in range(100)]
    assert choose_subset(samples, 10, seed=1) != choose_subset(samples, 10, seed=2)


def test_types_of_xstest_stay_balanced_and_pairs_whole(shared):
    samples = load_suite("xstest", root=shared, limit=60).samples
    kinds = Counter(sample.category for sample in samples)
    assert len(kinds) >= 15
    counts = Counter(sample.cluster for sample in samples)
    assert sum(count >= 2 for count in counts.values()) >= 20
