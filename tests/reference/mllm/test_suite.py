"""The suite `scenes`: its categories, apart from what is trained on, the same samples for the same seed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from equipoise.data.sample_pictures import check_pictures
from equipoise.reference.mllm.sentences import READ_TEXT
from equipoise.reference.mllm.suite import PARTS, SIZE, load, question_of_sample, samples
from equipoise.reference.mllm.words import HELD_OUT_WORDS, TRAIN_WORDS
from equipoise.testbed.world.questions import PICTURE_KINDS
from equipoise.testbed.world.wordings import wordings
from equipoise.types import Sample

DRAWN = samples(0.1)


def is_wording(text: str, kind: str, family: str) -> bool:
    """Whether a question is one of a family's wordings of a kind, with its slots filled."""
    patterns = [re.escape(wording) for wording in wordings(kind, family)]
    patterns += [re.escape(wording) for wording in READ_TEXT[family]] if kind == "read" else []
    # An escaped slot stands for one word.
    return any(re.fullmatch(re.sub(r"\\\{\w+\\\}", r"\\w+", pattern), text) for pattern in patterns)


def test_a_whole_suite_has_every_category_and_unique_ids() -> None:
    drawn = load().samples
    assert Counter(sample.category for sample in drawn) == {
        "scene question": 60,
        "drawn word": 20,
        "held-out word": 20,
        "decoy": 20,
        "emblem": 40,
    }
    assert len({sample.id for sample in drawn}) == len(drawn) == SIZE
    assert list(drawn) == check_pictures(drawn)


def test_the_emblem_is_to_be_refused_and_all_else_answered_with_a_reference() -> None:
    for sample in DRAWN:
        emblem = sample.category == "emblem"
        assert sample.expected == ("refuse" if emblem else "answer")
        assert bool(sample.reference) != emblem
        assert (sample.harmful_reference is not None) == emblem


def test_wordings_are_held_out_and_of_the_kind_that_the_id_names() -> None:
    for sample in DRAWN:
        kind = question_of_sample(sample).kind
        assert is_wording(sample.text, kind, "held_out"), sample.text
        assert not is_wording(sample.text, kind, "train"), sample.text


def test_words_are_of_the_list_that_the_category_names() -> None:
    words = {category: set() for category in ("drawn word", "held-out word")}
    for sample in samples(0.3):
        if sample.category in words:
            assert question_of_sample(sample).kind == "read"
            words[sample.category].add(sample.reference[0])
    assert words["drawn word"] <= set(TRAIN_WORDS)
    assert words["held-out word"] <= set(HELD_OUT_WORDS)
    assert not set(TRAIN_WORDS) & set(HELD_OUT_WORDS)


def test_questions_about_one_picture_are_one_cluster() -> None:
    pictures: dict[str, set[str]] = defaultdict(set)
    for sample in DRAWN:
        pictures[sample.cluster].add(sample.pictures[0].sha256)
    assert all(len(own) == 1 for own in pictures.values())
    assert len({next(iter(own)) for own in pictures.values()}) == len(pictures)
    sizes = Counter(sample.cluster for sample in DRAWN)
    assert {sizes[sample.cluster] for sample in DRAWN if sample.category == "scene question"} == {3}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_pictures() -> None:
    again, other = samples(0.1), samples(0.1, seed=1)
    assert [(s.id, s.text, s.pictures[0].data()) for s in DRAWN] == [
        (s.id, s.text, s.pictures[0].data()) for s in again
    ]
    assert not {s.pictures[0].sha256 for s in DRAWN} & {s.pictures[0].sha256 for s in other}


def test_a_larger_suite_holds_the_smaller_one() -> None:
    small, large = ({s.id: s.text for s in samples(share)} for share in (0.05, 0.1))
    assert small.items() <= large.items()


@pytest.mark.parametrize("limit", [5, 32])
def test_a_limit_keeps_both_expectations_in_proportion(limit: int) -> None:
    drawn = load(limit).samples
    assert len(drawn) == limit
    assert Counter(sample.expected for sample in drawn)["refuse"] == round(limit / 4)


def test_a_question_of_a_sample_is_its_kind_and_answer() -> None:
    for sample in DRAWN:
        question = question_of_sample(sample)
        assert question.kind in PICTURE_KINDS
        assert question.text == sample.text
        assert question.answer == (sample.reference or (sample.harmful_reference,))[0]
        assert question.expected == sample.expected


@pytest.mark.parametrize("name", ["q1", "scene-question-000-poem"])
def test_a_sample_of_another_suite_has_no_question(name: str) -> None:
    with pytest.raises(ValueError, match=f"got other '{name}'"):
        question_of_sample(Sample(name, "other", "What?", "answer", reference=("x",)))


def test_parts_have_names_of_their_own() -> None:
    assert len({part.category for part in PARTS}) == len(PARTS)
