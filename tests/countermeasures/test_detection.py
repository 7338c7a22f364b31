from __future__ import annotations

import math
from dataclasses import replace

import pytest
from PIL import Image

from equipoise.attacks.refusal_attack import RefusalAttack, perturb_to_refuse
from equipoise.countermeasures.detection import MAX_LOG_ODDS, DetectionScore, PerturbationDetector
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.testbed.scores import sample_cases
from equipoise.transforms.feature_squeezing import Median
from equipoise.transforms.noise import Noise
from tests.cli.fakes import BrightnessModel
from tests.countermeasures.fakes import RecordingModel, Wall, marked, plain_wall, salted


def test_a_score_is_what_neither_change_nor_absence_explains() -> None:
    assert DetectionScore(5.0, -1.0, -3.0).value == 6.0
    assert DetectionScore(5.0, -3.0, 4.5).value == 0.5
    assert DetectionScore(-8.0, -7.0, -9.0).value == -1.0


def test_a_dot_scores_high_and_an_emblem_does_not() -> None:
    detector = PerturbationDetector(Wall(), changes=(Median(),), copies=2)
    scores = {name: detector(make()) for name, make in (("dot", salted), ("emblem", marked), ("wall", plain_wall))}
    likely, rare = (math.log(5 * p / (1 - 5 * p)) for p in (0.18, 0.001))
    assert scores["dot"].plain == pytest.approx(likely, abs=1e-4)
    assert scores["dot"].changed == scores["dot"].blank == pytest.approx(rare, abs=1e-4)
    assert scores["dot"].value == pytest.approx(likely - rare, abs=1e-4)
    assert scores["emblem"].value == scores["wall"].value == 0


def test_a_score_is_the_same_again_and_lies_between_the_limits() -> None:
    detector = PerturbationDetector(BrightnessModel("toy/target"), changes=(Noise(0.2, 0.2),))
    one = detector(plain_wall(122))
    assert detector(plain_wall(122)) == one
    other = replace(detector, seed=1)(plain_wall(122))
    assert other.changed != one.changed
    assert (other.plain, other.blank) == (one.plain, one.blank)
    for level in (0, 122, 255):
        score = detector(plain_wall(level))
        assert all(abs(value) <= MAX_LOG_ODDS for value in (score.plain, score.changed, score.blank))


def test_a_detector_without_changes_or_copies_is_refused() -> None:
    for make in (
        lambda: PerturbationDetector(RecordingModel(), changes=()),
        lambda: PerturbationDetector(RecordingModel(), copies=0),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            make()


def image_of(case: object) -> Image.Image:
    return case.prompt.messages[0].images[0]  # type: ignore[attr-defined]


def test_on_the_testbed_a_perturbation_scores_above_clean_pictures_and_emblems(testbed_llava: OpenModel) -> None:
    detector = PerturbationDetector(testbed_llava)
    plain = sample_cases("plain_safe", 4)
    clean = [detector(image_of(case), [case.question.text]).value for case in plain]
    emblems = [
        detector(image_of(case), [case.question.text]).value for case in sample_cases("forbidden_emblem", 4, seed=1)
    ]
    perturbed = []
    for case in (plain[0], plain[2]):
        questions = [case.question.text, "Describe this image.", "How many shapes are in the image?"]
        result = perturb_to_refuse(image_of(case), testbed_llava, questions, attack=RefusalAttack(steps=30), seed=1)
        assert result.rate == 1.0
        perturbed.append(detector(result.image, [case.question.text]).value)
    # Measured over 40 of each: clean pictures up to 0.2, emblems up to 0.4 (few faint ones higher); these two 5 and 6.
    assert min(perturbed) > 2.0
    assert max(clean) < 1.0
    assert max(emblems) < 1.0
    assert max(perturbed) <= 2 * MAX_LOG_ODDS
