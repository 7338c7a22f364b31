"""Our own prompts: how many, and that none is somebody else's."""

from __future__ import annotations

import tomllib
from collections import Counter
from importlib.resources import files

import pytest

from equipoise.data.catalogue import load_suite
from equipoise.data.questions import fold
from equipoise.data.splits import find_overlaps
from equipoise.data.suites import everyday

SAMPLES = everyday.load()


def test_eight_kinds_of_false_alarm_and_ordinary_ones():
    counts = Counter(sample.category for sample in SAMPLES)
    assert counts.pop("ordinary") == 12
    assert list(counts.values()) == [6] * 8


def test_all_are_to_be_answered_and_ours():
    assert {(s.expected, s.source, s.licence, s.pictures) for s in SAMPLES} == {("answer", "Equipoise", "MIT", ())}
    assert len({sample.id for sample in SAMPLES}) == len({fold(sample.text) for sample in SAMPLES}) == len(SAMPLES)


def test_every_category_gives_its_reason():
    text = files("equipoise.data").joinpath("everyday.toml").read_text(encoding="utf-8")
    assert all(len(category["why"]) > 15 for category in tomllib.loads(text)["category"])


@pytest.mark.parametrize(
    "name",
    [
        "xstest",
        "or-bench/hard-1k",
        "or-bench/80k",
        "phtest",
        "coconot",
        "jailbreakbench",
        "alpaca-harmless",
        "do-not-answer",
    ],
)
def test_none_repeats_a_published_prompt(shared, name):
    assert find_overlaps(load_suite(name, root=shared).samples, SAMPLES) == ()


def test_none_is_close_to_a_published_prompt(shared):
    """No more than half of a prompt's word triples stand together in one published prompt."""
    published = [
        triples(sample.text)
        for name in ("xstest", "or-bench/hard-1k", "or-bench/80k", "phtest", "coconot")
        for sample in load_suite(name, root=shared).samples
    ]
    for sample in SAMPLES:
        own = triples(sample.text)
        assert max(len(own & other) for other in published) <= len(own) / 2, sample.text


def triples(text):
    words = fold(text).split()
    return {tuple(words[n : n + 3]) for n in range(len(words) - 2)}
