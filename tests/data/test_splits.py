"""Parts that do not overlap."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.catalogue import load_suite
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.splits import RULES, Overlap, SplitRule, find_overlaps, split
from equipoise.data.typographic import typographic
from equipoise.errors import UsageError
from equipoise.types import Sample

WORDS = [f"{start}{end}" for start in ("ba", "ke", "li", "mo") for end in ("ra", "so", "tu", "vi")]
SAMPLES = st.lists(
    st.tuples(
        st.sampled_from(["one", "two", "two/form"]),
        st.integers(0, 20),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
        st.sampled_from(["x", "y"]),
    ),
    max_size=40,
).map(
    lambda rows: [
        Sample(str(n), suite, " ".join(words), "answer", category=category, cluster=f"c{cluster}")
        for n, (suite, cluster, words, category) in enumerate(rows)
    ]
)


def pairs(parts):
    return [
        (parts.selection, parts.development),
        (parts.selection, parts.test),
        (parts.development, parts.test),
    ]


@given(
    SAMPLES, st.integers(0, 5), st.sampled_from([None, SplitRule(by="category"), SplitRule(development=0.5, test=0.5)])
)
def test_parts_hold_everything_once_and_nothing_related(samples, seed, rule):
    parts = split(samples, seed=seed, rule=rule)
    together = [*parts.selection, *parts.development, *parts.test]
    assert sorted(sample.id for sample in together) == sorted(sample.id for sample in samples)
    assert [find_overlaps(*pair) for pair in pairs(parts)] == [(), (), ()]


@given(SAMPLES, st.randoms())
def test_order_makes_no_difference(samples, rng):
    shuffled = list(samples)
    rng.shuffle(shuffled)
    assert {s.id for s in split(samples).test} == {s.id for s in split(shuffled).test}


def test_shares_are_roughly_kept():
    samples = [Sample(str(n), "s", f"prompt number {n}", "answer") for n in range(2000)]
    parts = split(samples, rule=SplitRule(development=0.2, test=0.3))
    assert len(parts.development) == pytest.approx(400, abs=60)
    assert len(parts.test) == pytest.approx(600, abs=70)
    assert split(samples, seed=1, rule=SplitRule(development=0.2, test=0.3)) != parts


SENTENCE = " ".join(WORDS[:13])


@pytest.mark.parametrize(
    ("left", "right", "kinds"),
    [
        (Sample("1", "a", "Hello, you!", "answer"), Sample("9", "b", "hello YOU", "refuse"), ["wording"]),
        (Sample("1", "a", f"x {SENTENCE}", "answer"), Sample("9", "b", f"{SENTENCE}! y", "answer"), ["13-gram"]),
        (Sample("1", "a", "x", "answer", cluster="k"), Sample("2", "a/f", "y", "answer", cluster="k"), ["cluster"]),
        (Sample("1", "a", "x", "answer", cluster="k"), Sample("2", "b", "y", "answer", cluster="k"), []),
        (
            Sample("1", "a", "x " + " ".join(WORDS[:12]), "answer"),
            Sample("9", "b", " ".join(WORDS[:12]) + " y", "answer"),
            [],
        ),
    ],
)
def test_what_counts_as_related(left, right, kinds):
    assert [overlap.kind for overlap in find_overlaps([left], [right])] == kinds


def test_an_overlap_names_both():
    left, right = Sample("1", "a", "Hello", "answer"), Sample("9", "b", "hello", "answer")
    assert find_overlaps([left], [right]) == (Overlap("wording", "a 1", "b 9"),)


def test_a_question_about_another_picture_is_another_but_a_drawn_request_is_the_same():
    from PIL import Image

    red, blue = (GeneratedPicture.of(Image.new("RGB", (4, 4), colour)) for colour in ("red", "blue"))
    ask = Sample("1", "vqa", "Is there a dog?", "answer", pictures=(red,), cluster="red")
    assert find_overlaps([ask], [replace(ask, pictures=(blue,), cluster="blue")]) == ()
    assert [o.kind for o in find_overlaps([ask], [replace(ask, text="And a cat?", cluster="other")])] == ["picture"]
    request = Sample("1", "words", "How do I fold a swan?", "answer")
    (drawn,) = typographic([replace(request, suite="elsewhere")])
    assert [overlap.kind for overlap in find_overlaps([request], [drawn])] == ["wording"]


@pytest.mark.parametrize(
    "rule", [SplitRule(test=1.1), SplitRule(development=-0.1), SplitRule(development=0.7, test=0.6)]
)
def test_shares_must_be_shares(rule):
    with pytest.raises(UsageError, match="shares"):
        split([], rule=rule)


def test_types_of_xstest_stay_with_their_contrasts(shared):
    parts = split(load_suite("xstest", root=shared).samples)
    kinds = [
        {sample.category.removeprefix("contrast_") for sample in part}
        for part in (parts.selection, parts.development, parts.test)
    ]
    assert all(
        left & right == set() for left, right in ((kinds[0], kinds[1]), (kinds[0], kinds[2]), (kinds[1], kinds[2]))
    )


def test_sets_that_may_only_test_are_wholly_in_the_test_part(shared):
    assert set(RULES) == {"xstest", "mossbench", "everyday", "contrast"}
    for name in ("mossbench", "everyday", "contrast"):
        samples = load_suite(name, root=shared).samples
        parts = split(samples)
        assert (len(parts.selection), len(parts.development), len(parts.test)) == (0, 0, len(samples))


def test_real_sets_divide_cleanly_and_known_repetitions_are_found(shared):
    suites = ("advbench", "strongreject", "jailbreakbench", "harmbench", "coconot")
    samples = [sample for name in suites for sample in load_suite(name, root=shared).samples]
    random.Random(0).shuffle(samples)
    parts = split(samples)
    assert [find_overlaps(*pair) for pair in pairs(parts)] == [(), (), ()]
    of = {name: [sample for sample in samples if sample.suite == name] for name in suites}
    assert len({o.right for o in find_overlaps(of["advbench"], of["strongreject"]) if o.kind == "wording"}) == 21
