from __future__ import annotations

from typing import Any

import pytest

from equipoise.countermeasures import catalogue
from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.catalogue import CATALOGUE, defend, example, parse
from equipoise.countermeasures.retry_on_refusal import RetryOnRefusal
from equipoise.countermeasures.transformed_model import TransformedModel
from equipoise.countermeasures.voting import MajorityVote, RandomizedSmoothing
from equipoise.errors import UsageError
from equipoise.transforms.base import Identity
from equipoise.transforms.feature_squeezing import Median
from equipoise.transforms.geometry import Crop
from equipoise.transforms.noise import Noise
from tests.countermeasures.fakes import PROMPTS, RecordingModel, seen_by
from tests.models.tiny_plain import PlainTorchModel

STEERED = ("surgical", "conditional", "steer", "dro")
"""Those that need a file; `test_steered_model` and `test_soft_prompted_model` build them."""
WEIGHTLESS = [name for name in CATALOGUE if name not in ("diffpure", "tower", *STEERED)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_name_parses_alone_and_with_its_example(name: str) -> None:
    plain = parse(name)
    assert (plain.name, plain.given, plain.values) == (name, {}, dict(CATALOGUE[name].keys))
    result = parse(example(name))
    assert result.name == name
    if name not in ("tower", *STEERED):
        assert result.values == plain.values, "the example shows the defaults"
    assert CATALOGUE[name].about


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_the_example_is_the_default(name: str) -> None:
    model = PlainTorchModel()
    assert defend(model, [name]).revision == defend(model, [example(name)]).revision


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Loading a tower or a denoiser is only noted."""
    loaded: list[str] = []

    def with_tower(model: Any, name: str) -> Any:
        loaded.append(name)
        return model

    monkeypatch.setattr("equipoise.countermeasures.vision_tower.with_vision_tower", with_tower)
    monkeypatch.setitem(catalogue.TRANSFORMS, "diffpure", lambda *_: loaded.append("denoiser") or Identity())
    return loaded


def test_weights_are_loaded_where_they_are_named(no_weights: list[str]) -> None:
    model = PlainTorchModel()
    assert defend(model, ["tower:id=org/name"]) is model
    assert isinstance(defend(model, ["diffpure:t=0.2"]), TransformedModel)
    assert isinstance(defend(model, ["recover:by=diffpure"]), RetryOnRefusal)
    assert no_weights == ["org/name", "denoiser", "denoiser"]


def test_settings_reach_what_they_set() -> None:
    model = PlainTorchModel()
    noise = defend(model, ["noise:sigma=8/255,seed=3"])
    assert isinstance(noise, TransformedModel)
    assert (noise.transform, noise.seed) == (Noise(8 / 255, 8 / 255), 3)
    median = defend(model, ["median:size=5"])
    assert isinstance(median, TransformedModel)
    assert median.transform == Median(5)
    crop = defend(model, ["crop:lowest=0.5,highest=0.6"])
    assert isinstance(crop, TransformedModel)
    assert crop.transform == Crop(0.5, 0.6, restore=True)
    smooth = defend(model, ["smooth:sigma=0.1,copies=5,seed=2"])
    assert isinstance(smooth, RandomizedSmoothing)
    assert (smooth.sigma, smooth.copies, smooth.seed) == (0.1, 5, 2)
    vote = defend(model, ["vote:by=noise,copies=3"])
    assert isinstance(vote, MajorityVote)
    assert (vote.transform, vote.copies) == (Noise(0.05, 0.05), 3)
    recover = defend(model, ["recover:by=median,threshold=1.5,seed=4"])
    assert defend(model, ["recover"]).purifier == Crop(0.85, 1.0, restore=True)  # type: ignore[attr-defined]
    assert isinstance(recover, RetryOnRefusal)
    assert (recover.purifier, recover.threshold, recover.seed) == (Median(), 1.5, 4)
    assert recover.detector is not None
    assert (recover.detector.model, recover.detector.seed) == (model, 4)
    assert defend(model, ["recover:by=caption"]).purifier is None  # type: ignore[attr-defined]
    assert defend(model, ["recover:threshold=none"]).detector is None  # type: ignore[attr-defined]
    outer = defend(model, ["recover", "noise"])
    assert outer.detector.model is model  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "   ",
        ":sigma=1",
        "nose",
        "Noise",
        "noise:strength=1",
        "noise:sigma",
        "noise:sigma=",
        "noise:=0.1",
        "noise:sigma=abc",
        "noise:sigma=nan",
        "noise:sigma=nan/1",
        "noise:sigma=inf",
        "noise:sigma=0.1,sigma=0.1",
        "recover:threshold=inf",
        "second:odds=-inf",
        "noise:sigma=-0.1",
        "noise:sigma=1/0",
        "noise:sigma=1/2/3",
        "noise:seed=1.5",
        f"recover:seed=1{'0' * 30}",
        f"recover:by=caption,seed={2**64}",
        f"noise:seed={-(2**63) - 1}",
        "steer:.",
        "surgical:/",
        "conditional:.",
        "dro:.",
        "noise:seed=",
        "median:seed=1",
        "median:size=4",
        "median:size=3.0",
        "jpeg:quality=0",
        "jpeg:quality=101",
        "bits:depth=0",
        "shrink:share=1",
        "shrink:share=nan",
        "pad:lowest=0.9,highest=0.8",
        "crop:lowest=0",
        "smooth:sigma=0",
        "smooth:copies=0",
        "smooth:copies=nan",
        "vote:by=median",
        "vote:by=vote",
        "vote:by=caption",
        "recover:by=recover",
        "recover:by=nothing",
        "recover:by=caption,threshold=none",
        "recover:threshold=high",
        "recover:threshold=nan",
        "tower",
        "tower:id=",
        "diffpure:t=much",
        "diffpure:steps=2.5",
        "diffpure:seed=none",
    ],
)
def test_what_cannot_be_is_one_clear_line(spec: str) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got .*; try [^;]+$") as caught:
        defend(PlainTorchModel(), [spec])
    assert "\n" not in str(caught.value)


def test_an_error_in_a_chain_is_found_before_weights_are_loaded(no_weights: list[str]) -> None:
    for chain in (["nose", "tower:id=a"], ["noise:strength=1", "tower:id=a"], ["tower:id=a", "noise"]):
        with pytest.raises(UsageError):
            defend(PlainTorchModel(), chain)
    assert no_weights == []


def test_the_first_of_a_chain_meets_the_picture_first() -> None:
    for chain in (["bits:depth=1", "median:size=9"], ["median:size=9", "bits:depth=1"]):
        model = defend(RecordingModel(), chain)
        assert isinstance(model, Countermeasure)
        assert [layer.spec for layer in model.layers] == chain
        assert model.name == f"plain + {chain[1]} + {chain[0]}"
        values = set(seen_by(model, PROMPTS[:1])[0])
        assert values == {0, 255}, "a median of one-bit values is one of them"
    # Grey levels of one bit: noise first leaves two values, noise last leaves many.
    first, last = (defend(RecordingModel(), chain) for chain in (["noise", "bits:depth=1"], ["bits:depth=1", "noise"]))
    assert isinstance(first, Countermeasure)
    assert isinstance(last, Countermeasure)
    assert set(seen_by(first, PROMPTS[:1])[0]) == {0, 255}
    assert len(set(seen_by(last, PROMPTS[:1])[0])) > 10


def test_a_tower_stands_last(no_weights: list[str]) -> None:
    model = PlainTorchModel()
    assert defend(model, ["noise", "tower:id=a"]).name == "plain + noise"
    for chain in (["tower:id=a", "noise"], ["tower:id=a", "tower:id=b"], ["noise", "tower:id=a", "median"]):
        with pytest.raises(UsageError, match=r"expected a tower as the last .*, got tower:id=a before others; try"):
            defend(model, chain)


def test_spaces_do_not_matter() -> None:
    tidy = parse("noise:sigma=0.1,seed=3")
    for spec in (
        "  noise:sigma=0.1,seed=3 ",
        "noise : sigma = 0.1 , seed = 3",
        "noise:sigma=0.1, seed=3,",
        "noise:,sigma=0.1,,seed=3",
    ):
        assert parse(spec) == tidy
    assert defend(PlainTorchModel(), [" noise "]).name == "plain + noise"


def test_no_defence_is_the_model_itself() -> None:
    model = PlainTorchModel()
    assert defend(model, []) is model
    assert defend(model, ()) is model


def test_a_setting_given_twice_and_a_broken_whole_number_are_named() -> None:
    with pytest.raises(UsageError, match=r"expected sigma of noise once, got it again as 'sigma=0\.2'"):
        parse("noise:sigma=0.1,sigma=0.2")
    with pytest.raises(UsageError, match=r"expected a whole number for quality of jpeg, got '7\.5'"):
        defend(PlainTorchModel(), ["jpeg:quality=7.5"])
