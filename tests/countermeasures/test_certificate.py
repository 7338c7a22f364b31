from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom, binomtest, norm
from torch import Generator

from equipoise.countermeasures.certificate import Certificate, certify, fewest_copies, predict
from equipoise.countermeasures.voting import RandomizedSmoothing, VoteCounts
from equipoise.errors import UsageError
from equipoise.judges.phrases import judge_reply
from equipoise.stats.thresholds import clopper_pearson_lower
from equipoise.types import Exchange, Prompt, Verdict
from tests.cli.fakes import REFUSAL, BrightnessModel
from tests.countermeasures.fakes import RecordingModel

SIGMA, LIMIT, SIDE = 0.05, 0.5, 4
VALUES = 3 * SIDE**2


class Spelt:
    """The toy has two replies; the structural judge reads both alike, but slower."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("full" if exchange.reply == REFUSAL else "none") for exchange in exchanges]


SMOOTHED = RandomizedSmoothing(BrightnessModel("toy/target"), SIGMA, 9, "smooth", judge=Spelt())
"""Refuses above a mean brightness of 0.5; clipping is ten deviations away."""


class LateRefusal(BrightnessModel):
    """Refuses after 30 words, which count as tokens."""

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        words = ("To " + "look at this picture of a garden " * 4 + ", no. " + REFUSAL).split()
        reply = " ".join(words[:max_new_tokens])
        return [Exchange(prompt, reply, "stop", self.name) for prompt in prompts]


def grey(level: int) -> Prompt:
    return Prompt.ask("What is there?", Image.new("RGB", (SIDE, SIDE), (level,) * 3))


def true_radius(image: Image.Image, label: str) -> float:
    """The mean under noise is Gaussian, so the boundary of the smoothed class is the plane where it is the limit."""
    away = (float(np.asarray(image).mean()) / 255 - LIMIT) * VALUES**0.5
    return away if label == "refuse" else -away


def with_votes(*votes: VoteCounts) -> RandomizedSmoothing:
    """A smoothed model whose copies divide as told."""
    model = RandomizedSmoothing(BrightnessModel("toy/target"), SIGMA, 9, "smooth")
    left = iter(votes)
    model.votes = lambda *_, **__: next(left)  # type: ignore[method-assign]
    return model


def test_the_radius_is_sigma_times_the_quantile_of_the_bound() -> None:
    result = certify(with_votes(VoteCounts(60, 4, 0), VoteCounts(980, 20, 0)), grey(140))
    lower = clopper_pearson_lower(980, 1000, 0.001)
    assert (result.label, result.hits, result.copies, result.confidence) == ("refuse", 980, 1000, 0.999)
    assert result.lower == pytest.approx(lower)
    assert result.radius == pytest.approx(SIGMA * norm.ppf(lower))
    assert result.linf(VALUES) == pytest.approx(result.radius / VALUES**0.5)
    assert Certificate("answer", 0.5, 0.9, 10, 9, 0.9).linf(4) == 0.25


def test_a_class_that_is_not_clearly_more_likely_is_not_certified() -> None:
    for bound in (VoteCounts(500, 500, 0), VoteCounts(540, 460, 0), VoteCounts(0, 1000, 0)):
        result = certify(with_votes(VoteCounts(60, 4, 0), bound), grey(140))
        assert (result.label, result.radius) == (None, 0.0)
        assert result.lower <= 0.5
        assert result.hits == bound.refuse, "the guess is not changed after the fact"


def test_unscored_copies_count_against_the_class() -> None:
    assert certify(with_votes(VoteCounts(0, 60, 4), VoteCounts(0, 600, 400)), grey(100), copies=1000).hits == 600
    assert certify(with_votes(VoteCounts(0, 60, 4), VoteCounts(0, 400, 600)), grey(100), copies=1000).label is None
    assert certify(with_votes(VoteCounts(0, 0, 64), VoteCounts(0, 0, 1000)), grey(100)).label is None


@pytest.mark.parametrize(("max_new_tokens", "label"), [(24, "answer"), (64, "refuse")])
def test_the_certified_class_is_that_of_replies_as_long_as_the_deployed_vote_reads(
    max_new_tokens: int, label: str
) -> None:
    model = RandomizedSmoothing(LateRefusal("toy/target"), SIGMA, 9, "smooth")
    result = certify(model, grey(100), copies=40, selection=8, max_new_tokens=max_new_tokens)
    (deployed,) = model.generate([grey(100)], max_new_tokens=max_new_tokens)
    assert (result.label, result.max_new_tokens) == (label, max_new_tokens)
    assert (judge_reply("", deployed.reply).refusal != "none") is (label == "refuse")
    assert predict(model, grey(100), copies=20, max_new_tokens=max_new_tokens) == label


def test_the_certificate_reads_as_much_as_the_deployed_vote_by_default() -> None:
    model = RandomizedSmoothing(LateRefusal("toy/target"), SIGMA, 9, "smooth")
    assert certify(model, grey(100), copies=40, selection=8).label == "refuse"
    assert predict(model, grey(100), copies=20) == "refuse"
    default = inspect.signature(RandomizedSmoothing.generate).parameters["max_new_tokens"].default
    for reader in (certify, predict, RandomizedSmoothing.votes):
        assert inspect.signature(reader).parameters["max_new_tokens"].default == default


def test_the_guess_and_the_bound_look_at_different_noise() -> None:
    model = RecordingModel()
    certify(RandomizedSmoothing(model, SIGMA, 9, "smooth"), grey(120), copies=30, selection=12, batch=8)
    recorded = [prompt.messages[0].images[0].tobytes() for prompt in model.recorded]
    assert len(recorded) == len(set(recorded)) == 42
    again = RecordingModel()
    certify(RandomizedSmoothing(again, SIGMA, 9, "smooth"), grey(120), copies=30, selection=12, seed=1)
    assert not {prompt.messages[0].images[0].tobytes() for prompt in again.recorded} & set(recorded)


def test_the_probabilities_of_the_toy_are_the_known_ones() -> None:
    for level in (122, 126, 129):
        known = norm.cdf((level / 255 - LIMIT) * VALUES**0.5 / SIGMA)
        result = SMOOTHED.votes(grey(level), 600, Generator().manual_seed(level))
        assert result.unscored == 0
        assert binomtest(result.refuse, 600, known).pvalue > 1e-3


@pytest.mark.parametrize("level", [124, 125, 131])
def test_a_certified_radius_exceeds_the_true_one_no_more_often_than_stated(level: int) -> None:
    prompt, label = grey(level), "refuse" if level > 127 else "answer"
    truth = true_radius(prompt.messages[0].images[0], label)
    certificates = [certify(SMOOTHED, prompt, copies=60, selection=7, confidence=0.9, seed=seed) for seed in range(100)]
    wrong = sum(c.label is not None and (c.label != label or c.radius > truth) for c in certificates)
    assert wrong <= binom.ppf(0.999, len(certificates), 0.1)
    assert any(c.label == label and c.radius > 0.25 * truth for c in certificates), "nor is it idle"


def test_no_picture_within_the_radius_has_another_class() -> None:
    random = np.random.default_rng(0)
    for level, label, towards in ((121, "answer", 1), (134, "refuse", -1)):
        result = certify(SMOOTHED, grey(level), copies=300)
        assert result.label == label
        base = np.full((SIDE, SIDE, 3), level)
        worst = [np.full(base.shape, towards * int(result.linf(VALUES) * 255))]
        worst.append(np.zeros(base.shape, int))
        worst[1][0, 0] = towards * int(min(result.radius * 255 / 3**0.5, 120))
        others = []
        for _ in range(20):
            way = random.normal(size=base.shape)
            others.append(np.trunc(way / np.linalg.norm(way) * result.radius * 255).astype(int))
        assert np.abs(worst[0]).max() >= 1
        for number, change in enumerate((*worst, *others)):
            assert np.linalg.norm(change / 255) <= result.radius
            moved = Image.fromarray((base + change).astype(np.uint8))
            assert true_radius(moved, label) > 0
            if number < 4:
                assert predict(SMOOTHED, Prompt.ask("What is there?", moved), copies=60) in (label, None)


def test_prediction_tells_clear_classes_and_abstains_when_split() -> None:
    assert predict(SMOOTHED, grey(110), copies=20) == "answer"
    assert predict(SMOOTHED, grey(145), copies=20) == "refuse"
    assert predict(with_votes(VoteCounts(50, 50, 0)), grey(128)) is None
    assert predict(with_votes(VoteCounts(58, 42, 0)), grey(128)) is None
    assert predict(with_votes(VoteCounts(0, 0, 100)), grey(128)) is None
    assert predict(with_votes(VoteCounts(3, 0, 97)), grey(128)) is None
    assert predict(with_votes(VoteCounts(80, 20, 0)), grey(128)) == "refuse"


def test_a_prediction_is_wrong_no_more_often_than_stated() -> None:
    # At an even split either answer is wrong with half of alpha at most; every outcome is summed.
    for count, confidence in ((100, 0.95), (60, 0.999)):
        predictions = [
            predict(with_votes(VoteCounts(hits, count - hits, 0)), grey(128), copies=count, confidence=confidence)
            for hits in range(count + 1)
        ]
        chances = binom.pmf(np.arange(count + 1), count, 0.5)
        assert (
            sum(chance for chance, prediction in zip(chances, predictions, strict=True) if prediction) <= 1 - confidence
        )


def test_the_certificate_says_what_it_needs() -> None:
    image = Image.new("RGB", (4, 4))
    for prompt, settings in (
        (grey(100), {"confidence": 1.0}),
        (grey(100), {"confidence": 0.0}),
        (grey(100), {"confidence": 1e-300}),
        (grey(100), {"confidence": float("nan")}),
        (grey(100), {"copies": 9}),
        (grey(100), {"copies": 0}),
        (grey(100), {"selection": 0}),
        (Prompt.ask("What?"), {}),
        (Prompt.ask("What?", image, image), {}),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got "):
            certify(SMOOTHED, prompt, **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a confidence"):
        predict(SMOOTHED, grey(100), confidence=float("nan"))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999, 0.99999, 1 - 1e-12])
def test_the_fewest_copies_certify_if_all_agree_and_one_fewer_cannot(confidence: float) -> None:
    fewest = fewest_copies(confidence)
    assert clopper_pearson_lower(fewest, fewest, 1 - confidence) > 0.5
    assert fewest == 1 or clopper_pearson_lower(fewest - 1, fewest - 1, 1 - confidence) <= 0.5
    agreed = certify(
        with_votes(VoteCounts(0, 64, 0), VoteCounts(0, fewest, 0)), grey(100), copies=fewest, confidence=confidence
    )
    assert agreed.label == "answer"
    assert 0 < agreed.radius < float("inf")
