from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta

from cli.toy import BrightnessModel
from countermeasures.world import Looking, Wall, marked, plain_wall, salted
from equipoise.attacks.refusal import make_refuse
from equipoise.countermeasures.detection import MOST_ODDS, Detector, Score, calibrate
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.testbed.scores import cases
from equipoise.transforms.noise import Noise
from equipoise.transforms.squeeze import Median


def upper(hits: int, count: int, confidence: float = 0.95) -> float:
    return float(beta.ppf(confidence, hits + 1, count - hits))


def test_a_score_is_what_neither_change_nor_absence_explains() -> None:
    assert Score(5.0, -1.0, -3.0).value == 6.0
    assert Score(5.0, -3.0, 4.5).value == 0.5
    assert Score(-8.0, -7.0, -9.0).value == -1.0


def test_a_dot_scores_high_and_an_emblem_does_not() -> None:
    detector = Detector(Wall(), changes=(Median(),), copies=2)
    scores = {name: detector(make()) for name, make in (("dot", salted), ("emblem", marked), ("wall", plain_wall))}
    likely, rare = (math.log(5 * p / (1 - 5 * p)) for p in (0.18, 0.001))
    assert scores["dot"].plain == pytest.approx(likely, abs=1e-4)
    assert scores["dot"].changed == scores["dot"].blank == pytest.approx(rare, abs=1e-4)
    assert scores["dot"].value == pytest.approx(likely - rare, abs=1e-4)
    assert scores["emblem"].value == scores["wall"].value == 0


def test_a_score_is_the_same_again_and_lies_between_the_limits() -> None:
    detector = Detector(BrightnessModel("toy/target"), changes=(Noise(0.2, 0.2),))
    one = detector(plain_wall(122))
    assert detector(plain_wall(122)) == one
    other = replace(detector, seed=1)(plain_wall(122))
    assert other.changed != one.changed
    assert (other.plain, other.blank) == (one.plain, one.blank)
    for level in (0, 122, 255):
        score = detector(plain_wall(level))
        assert all(abs(value) <= MOST_ODDS for value in (score.plain, score.changed, score.blank))


def test_a_detector_without_changes_or_copies_is_refused() -> None:
    for make in (lambda: Detector(Looking(), changes=()), lambda: Detector(Looking(), copies=0)):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            make()


def test_the_threshold_leaves_as_many_clean_pictures_above_as_the_rate_allows() -> None:
    scores = np.random.default_rng(0).normal(size=400).tolist()
    ordered = sorted(scores, reverse=True)
    found = calibrate(scores, 0.05)
    above = sum(score > found.value for score in scores)
    assert found.value == ordered[above]
    assert found.rate == above / 400
    assert found.bound == pytest.approx(upper(above, 400))
    assert found.bound <= 0.05 < upper(above + 1, 400)
    assert found.supported
    assert found.to_dict() == {
        "value": found.value,
        "rate": found.rate,
        "bound": found.bound,
        "asked": 0.05,
        "pictures": 400,
        "confidence": 0.95,
        "supported": True,
    }


def test_too_few_pictures_support_nothing() -> None:
    for count, supported in ((58, False), (59, True)):
        found = calibrate([float(i) for i in range(count)], 0.05)
        assert found.value == count - 1, "the highest: none is above it"
        assert found.rate == 0
        assert found.bound == pytest.approx(1 - 0.05 ** (1 / count))
        assert found.supported is supported
    assert not calibrate([1.0], 0.5).supported


def test_a_higher_rate_or_a_lower_confidence_never_raises_the_threshold() -> None:
    scores = np.random.default_rng(1).normal(size=150).tolist()
    values = [calibrate(scores, rate).value for rate in (0.01, 0.02, 0.05, 0.1, 0.3, 0.9)]
    assert values == sorted(values, reverse=True)
    values = [calibrate(scores, 0.1, confidence=confidence).value for confidence in (0.5, 0.8, 0.95, 0.999)]
    assert values == sorted(values)
    assert calibrate(scores, 0.1) == calibrate(scores[::-1], 0.1), "in whatever order"


def test_ties_are_not_flagged_and_do_not_lower_the_bound() -> None:
    found = calibrate([0.0] * 200, 0.05)
    assert (found.value, found.rate) == (0.0, 0.0)
    places = next(k for k in range(200) if upper(k + 1, 200) > 0.05)
    assert found.bound == pytest.approx(upper(places, 200))
    mixed = calibrate([5.0] * 3 + [0.0] * 197, 0.05)
    assert (mixed.value, mixed.rate) == (0.0, 3 / 200)
    assert mixed.supported


@pytest.mark.parametrize("tied", [False, True])
def test_the_bound_holds_as_often_as_it_says(tied: bool) -> None:
    random = np.random.default_rng(2)
    # Two levels whose tails lie just above the bounds of 1 and of 0 pictures in 100: the worst case of ties.
    tails = np.array([1.0, 0.047, 0.0296, 0.0])
    wrong = 0
    for _ in range(1500):
        draws = random.random(100)
        scores = (draws[:, None] < tails[1:]).sum(1).astype(float) if tied else 1 - draws
        found = calibrate(scores.tolist(), 0.05)
        truth = tails[int(found.value) + 1] if tied else 1 - found.value
        wrong += truth > found.bound
    assert wrong / 1500 <= 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_calibration_says_what_it_needs() -> None:
    for scores, rate, confidence in (
        ([], 0.05, 0.95),
        ([1.0], 0.0, 0.95),
        ([1.0], 1.0, 0.95),
        ([1.0], float("nan"), 0.95),
        ([1.0], 0.05, 1.0),
        ([1.0], 0.05, 0.0),
        ([1.0, float("nan")], 0.05, 0.95),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            calibrate(scores, rate, confidence=confidence)


def image_of(case: object) -> Image.Image:
    return case.prompt.messages[0].images[0]  # type: ignore[attr-defined]


def test_on_the_testbed_a_perturbation_scores_above_clean_pictures_and_emblems(testbed_llava: OpenModel) -> None:
    detector = Detector(testbed_llava)
    plain = cases("plain_safe", 4)
    clean = [detector(image_of(case), [case.question.text]).value for case in plain]
    emblems = [detector(image_of(case), [case.question.text]).value for case in cases("forbidden_emblem", 4, seed=1)]
    perturbed = []
    for case in (plain[0], plain[2]):
        questions = [case.question.text, "Describe this image.", "How many shapes are in the image?"]
        made = make_refuse(image_of(case), testbed_llava, questions, steps=30, seed=1)
        assert made.rate == 1.0
        perturbed.append(detector(made.image, [case.question.text]).value)
    # Measured over 40 of each: clean pictures up to 0.2, emblems up to 0.4 (few faint ones higher); these two 5 and 6.
    assert min(perturbed) > 2.0
    assert max(clean) < 1.0
    assert max(emblems) < 1.0
    assert max(perturbed) <= 2 * MOST_ODDS
