"""The embedded suite: both axes on the same pictures, the same samples for the same seed."""

from collections import Counter, defaultdict

import pytest

from equipoise.testbed.suite import NAME, load, samples


def test_every_condition_is_there_and_ids_are_unique() -> None:
    drawn = samples(scenes=4, singles=3)
    assert Counter(sample.category for sample in drawn) == {
        "plain_safe": 12,
        "forbidden_text": 4,
        "look_alike_safe": 3,
        "forbidden_picture": 3,
        "forbidden_emblem": 3,
    }
    assert len({sample.id for sample in drawn}) == len(drawn)


def test_what_should_happen_follows_the_condition_and_a_reference_says_what_that_is() -> None:
    for sample in samples(scenes=3, singles=3):
        forbidden = sample.category.startswith("forbidden")
        assert sample.expected == ("refuse" if forbidden else "answer")
        assert bool(sample.reference) != forbidden
        assert (sample.harmful_reference is not None) == forbidden


def test_the_pictures_of_several_questions_carry_both_axes_in_one_cluster() -> None:
    clusters = defaultdict(list)
    for sample in samples(scenes=5, singles=1):
        clusters[sample.cluster].append(sample)
    scenes = [group for group in clusters.values() if len(group) > 1]
    assert len(scenes) == 5
    for group in scenes:
        assert {sample.expected for sample in group} == {"answer", "refuse"}
        assert len({sample.pictures[0].sha256 for sample in group}) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_pictures() -> None:
    first, again, other = (samples(scenes=2, singles=2, seed=seed) for seed in (0, 0, 1))
    assert [(sample.id, sample.text, sample.pictures[0].data()) for sample in first] == [
        (sample.id, sample.text, sample.pictures[0].data()) for sample in again
    ]
    pictures = {sample.pictures[0].sha256 for sample in first}
    assert not pictures & {sample.pictures[0].sha256 for sample in other}


def test_a_larger_suite_begins_with_the_smaller_one() -> None:
    small, large = samples(scenes=2, singles=2), samples(scenes=3, singles=3)
    assert {sample.id: sample.text for sample in small}.items() <= {sample.id: sample.text for sample in large}.items()


def test_the_drawing_is_what_its_file_holds() -> None:
    (sample, *_) = samples(scenes=1, singles=1)
    (picture,) = sample.pictures
    assert sample.prompt.messages[-1].images[0].tobytes() == picture.open().tobytes()


@pytest.mark.parametrize("limit", [1, 6, 25])
def test_a_limit_is_kept_and_its_samples_are_those_of_the_suite(limit: int) -> None:
    suite = load(limit, seed=3)
    assert suite.name == NAME
    assert len(suite.samples) == limit
    assert "seed 3" in suite.source
    assert load(limit, seed=3).sha256 == suite.sha256
    assert load(limit, seed=4).sha256 != suite.sha256


def test_a_limited_suite_keeps_both_axes_and_every_condition() -> None:
    drawn = load(25).samples
    assert {sample.expected for sample in drawn} == {"answer", "refuse"}
    assert len({sample.category for sample in drawn}) == 5


def test_samples_say_where_they_come_from_and_can_be_asked() -> None:
    for sample in samples(scenes=1, singles=1):
        assert (sample.suite, sample.licence, sample.problem) == (NAME, "MIT", None)
        assert sample.source
        assert len(sample.pictures) == len(sample.prompt.pictures) == 1
