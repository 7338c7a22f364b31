from __future__ import annotations

import json

from equipoise.transforms.base import Identity
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.geometry import Crop, Resize
from equipoise.transforms.jpeg import Jpeg
from tests.transforms.tiny_denoiser import drawn

FOUR = (Jpeg(), Jpeg(75, 75), Resize(), Crop())


def test_a_step_draws_without_repetition_as_far_as_the_transforms_reach() -> None:
    expectation = EOTConfig(FOUR, samples=6)
    for seed in range(5):
        transforms = expectation.draw(drawn(seed))
        assert isinstance(transforms[0], Identity)
        assert len(transforms) == 7
        assert len(set(map(repr, transforms[1:5]))) == 4
    assert len(EOTConfig(samples=2, plain=False).draw(drawn(0))) == 2
    assert expectation.draw(drawn(1)) == expectation.draw(drawn(1))


def test_every_transform_is_drawn_as_often_as_the_others() -> None:
    random = drawn(0)
    expectation = EOTConfig(FOUR, samples=1, plain=False)
    transforms = [repr(expectation.draw(random)[0]) for _ in range(800)]
    assert all(160 < transforms.count(repr(transform)) < 240 for transform in FOUR)


def test_an_expectation_is_described_with_its_transforms() -> None:
    described = EOTConfig(FOUR, samples=3).describe()
    assert [transform["transform"] for transform in described["transforms"]] == ["Jpeg", "Jpeg", "Resize", "Crop"]
    assert (described["samples"], described["plain"]) == (3, True)
    assert json.loads(json.dumps(described)) == described
