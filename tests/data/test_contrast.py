"""Our own prompts in three kinds: how many, that every harmful theme has look-alikes, and that none is a copy."""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from importlib.resources import files

import pytest

from equipoise.data.catalogue import SHIPPED, load_suite
from equipoise.data.questions import fold
from equipoise.data.splits import find_overlaps, split
from equipoise.data.suites import contrast, everyday
from equipoise.types import Sample

SAMPLES = contrast.load()
OWN_SETS = (
    *(("equipoise.reference", f"prompts/{name}.txt") for name in ("harmful_acts", "harmful_texts")),
    *(("equipoise.reference", f"prompts/ordinary_{name}.txt") for name in ("acts", "questions", "subjects", "texts")),
    *(("equipoise.steering", f"prompts/{name}.txt") for name in ("harmful", "harmless", "ordinary", "pseudo_harmful")),
    ("equipoise.generation", "seeds.txt"),
)
"""Files with prompts that models are trained on, or that a method is fitted to."""


def kind_of(sample: Sample) -> str:
    return next(kind for kind in contrast.KINDS if f"-{kind.replace('_', '-')}-" in sample.id)


def own_prompts() -> list[Sample]:
    lines = [
        (f"{name} {number}", line.rpartition(" | ")[2])
        for package, name in OWN_SETS
        for number, line in enumerate(files(package).joinpath(name).read_text(encoding="utf-8").splitlines())
        if line and not line.startswith("#")
    ]
    return [Sample(name, "own", line, "answer") for name, line in lines] + everyday.load()


def test_a_hundred_look_alikes_sixty_harmful_and_a_hundred_plain_ones() -> None:
    assert Counter(map(kind_of, SAMPLES)) == {"look_alike": 100, "harmful": 60, "plain": 100}
    assert all(sample.expected == contrast.KINDS[kind_of(sample)] for sample in SAMPLES)
    assert {(s.source, s.licence, s.pictures, s.suite) for s in SAMPLES} == {("Equipoise", "MIT", (), "contrast")}
    assert len({sample.id for sample in SAMPLES}) == len({fold(sample.text) for sample in SAMPLES}) == len(SAMPLES)


def test_harmful_prompts_share_their_theme_with_more_look_alikes_and_plain_ones_with_neither() -> None:
    themes: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in SAMPLES:
        themes[sample.category][kind_of(sample)] += 1
    for name, counts in themes.items():
        assert set(counts) == ({"plain"} if name.startswith("plain: ") else {"harmful", "look_alike"}), name
        assert counts["look_alike"] >= counts["harmful"]


def test_every_theme_gives_its_reason_and_holds_nothing_else() -> None:
    text = files("equipoise.data").joinpath("contrast.toml").read_text(encoding="utf-8")
    for theme in tomllib.loads(text)["theme"]:
        assert set(theme) <= {"name", "why", *contrast.KINDS}
        assert len(theme["why"]) > 15


def test_a_harmful_request_is_one_short_sentence() -> None:
    for sample in SAMPLES:
        if sample.expected == "refuse":
            assert len(sample.text.split()) <= 25, sample.text
            assert sum(sample.text.count(mark) for mark in ".?!") == 1, sample.text


def test_the_suite_is_shipped_and_for_reports_alone() -> None:
    assert "contrast" in SHIPPED
    suite = load_suite("contrast")
    assert suite.samples == tuple(SAMPLES)
    parts = split(suite.samples)
    assert (len(parts.selection), len(parts.development), len(parts.test)) == (0, 0, len(SAMPLES))


def test_a_part_of_it_still_asks_for_both_failures() -> None:
    part = load_suite("contrast", limit=26).samples
    assert Counter(map(kind_of, part)) == {"look_alike": 10, "harmful": 6, "plain": 10}


def test_none_repeats_a_prompt_of_another_set_of_ours() -> None:
    own = own_prompts()
    assert len(own) > 800
    assert find_overlaps(own, SAMPLES) == ()
    assert not too_close(own)


@pytest.mark.parametrize(
    "name",
    [
        "xstest",
        "or-bench/hard-1k",
        "or-bench/80k",
        "phtest",
        "coconot",
        "jailbreakbench",
        "harmbench",
        "advbench",
        "malicious-instruct",
        "strongreject",
        "do-not-answer",
        "alpaca-harmless",
        "safeguard-pairs",
    ],
)
def test_none_repeats_or_nearly_repeats_a_published_prompt(shared, name) -> None:
    published = load_suite(name, root=shared).samples
    assert find_overlaps(published, SAMPLES) == ()
    assert not too_close(published)


def test_a_changed_word_is_noticed_as_too_close() -> None:
    text = SAMPLES[0].text
    changed = text.replace("security", "safety")
    assert changed != text
    assert too_close([Sample("1", "x", changed, "answer")]) == [text]


def too_close(others) -> list[str]:
    """Texts of which more than half of the word triples stand together in one other prompt."""
    holders = defaultdict(set)
    for number, sample in enumerate(others):
        for triple in triples(sample.text):
            holders[triple].add(number)
    close = []
    for sample in SAMPLES:
        own = triples(sample.text)
        shared_triples = Counter(number for triple in own for number in holders.get(triple, ()))
        if max(shared_triples.values(), default=0) > len(own) / 2:
            close.append(sample.text)
    return close


def triples(text):
    words = fold(text).split()
    return {tuple(words[n : n + 3]) for n in range(len(words) - 2)}
