from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Generator

from equipoise.attacks.large_pictures import seen_pixels
from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.cross_check import CrossCheck
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.types import Exchange, Prompt
from tests.child_process import environment
from tests.countermeasures.fakes import (
    DRAWING,
    INPUT,
    PROMPTS,
    STEADY,
    RecordingModel,
    album,
    defended,
    picture,
    seen_by,
)
from tests.models.tiny_plain import PlainTorchModel

PIXELS = to_pixels(picture(1))
QUESTIONS = (PROMPTS[0], PROMPTS[1])
REPLIES = ("yes", "a cat")


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def values(model: OpenModel) -> torch.Tensor:
    with torch.no_grad():
        return model.log_prob(PIXELS, QUESTIONS, REPLIES).tokens


@pytest.mark.parametrize("spec", INPUT)
def test_a_defended_model_is_a_model_with_a_name_of_its_own(spec: str) -> None:
    model = RecordingModel()
    result = defended(spec, model)
    assert isinstance(result, OpenModel)
    assert result.name == f"plain + {spec}"
    assert result.revision.startswith("seed-0+")
    assert (result.device, result.embedding_width) == (model.device, model.embedding_width)
    assert result.layers == (result,)
    assert result.core is model


def test_the_revision_tells_settings_seed_order_and_weights_apart() -> None:
    specs = [
        ["noise"],
        ["noise:sigma=0.06"],
        ["noise:seed=1"],
        ["median"],
        ["median:size=5"],
        ["noise", "median"],
        ["median", "noise"],
        ["smooth:sigma=0.05"],
        ["smooth:sigma=0.05,copies=3"],
        ["vote"],
        ["crop"],
        ["recover"],
        ["recover:by=caption"],
        ["recover:threshold=2"],
        ["recover:threshold=3"],
    ]
    result = [defend(PlainTorchModel(seed), spec).revision for seed in (0, 1) for spec in specs]
    assert len(set(result)) == len(result)


def test_the_way_a_defence_is_spelt_changes_neither_revision_nor_replies() -> None:
    short, long = defended("noise"), defended(" noise : seed = 0 , sigma = 0.05 ")
    assert short.revision == long.revision
    assert seen_by(short, PROMPTS) == seen_by(long, PROMPTS)
    assert torch.equal(values(short), values(long))


def test_a_seed_that_decides_nothing_is_not_in_the_revision() -> None:
    for spec in STEADY:
        assert "seed" not in defended(spec).describe()
    for spec in DRAWING:
        assert defended(spec).describe()["seed"] == 0


def test_revision_and_draws_are_the_same_in_another_process() -> None:
    # Two layers by hand: `defend` would load transformers, which takes longer than all else here.
    program = """
import hashlib, torch
from tests.child_process import environment
from tests.countermeasures.fakes import PROMPTS, RecordingModel, seen_by
from equipoise.countermeasures.transformed_model import TransformedModel
from equipoise.transforms.geometry import Crop
from equipoise.transforms.noise import Noise
torch.set_num_threads(1)
noise = TransformedModel(RecordingModel(), Noise(0.05, 0.05), "noise")
model = TransformedModel(noise, Crop(0.85, 1.0, restore=True), "crop")
print(model.revision, hashlib.sha256(b"".join(seen_by(model, PROMPTS))).hexdigest())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment(PYTHONHASHSEED="7"), capture_output=True, text=True, check=True
    ).stdout.split()
    model = defend(RecordingModel(), ["crop", "noise"])
    assert isinstance(model, Countermeasure)
    assert result == [model.revision, hashlib.sha256(b"".join(seen_by(model, PROMPTS))).hexdigest()]


@pytest.mark.parametrize("spec", STEADY)
def test_without_randomness_a_drawn_model_is_the_model_itself(spec: str) -> None:
    model = defended(spec)
    assert not model.is_random
    assert model.sample_randomness(rng()) is model


@pytest.mark.parametrize("spec", DRAWING)
def test_a_drawn_model_always_gives_the_same_and_two_draws_differ(spec: str) -> None:
    model = defended(spec)
    before = (values(model), seen_by(model, PROMPTS[:1]))
    assert model.is_random
    one, again, other = (
        model.sample_randomness(rng(1)),
        model.sample_randomness(rng(1)),
        model.sample_randomness(rng(2)),
    )
    for drawn in (one, other):
        assert not drawn.is_random
        assert drawn.sample_randomness(rng(3)) is drawn
        assert drawn.revision == model.revision
        assert torch.equal(values(drawn), values(drawn))
        assert seen_by(drawn, PROMPTS) == seen_by(drawn, PROMPTS)
    assert torch.equal(values(one), values(again))
    assert not torch.equal(values(one), values(other))
    assert not torch.equal(values(one), before[0])
    assert seen_by(one, PROMPTS) == seen_by(again, PROMPTS) != seen_by(other, PROMPTS)
    assert seen_by(one, PROMPTS[:1]) != before[1]
    assert model.is_random
    assert torch.equal(values(model), before[0])
    assert seen_by(model, PROMPTS[:1]) == before[1]


@pytest.mark.parametrize("chain", [("noise", "crop"), ("median", "noise"), ("noise", "median"), ("vote", "noise")])
def test_drawing_a_chain_draws_all_its_layers(chain: tuple[str, str]) -> None:
    model = defend(RecordingModel(), chain)
    assert isinstance(model, Countermeasure)
    assert model.is_random
    drawn = model.sample_randomness(rng())
    assert not any(layer.is_random for layer in drawn.layers)
    assert len(drawn.layers) == 2
    assert drawn.core is model.core
    inner = model.layers[1]
    assert inner is model.model
    assert model.is_random, "drawing leaves the defended model as it was"
    assert (drawn.layers[1] is inner) == (not inner.is_random)


def test_two_layers_of_one_kind_draw_apart() -> None:
    # The same noise twice would be noise of twice the strength.
    once, twice = defended("noise:sigma=0.1"), defend(RecordingModel(), ["noise:sigma=0.1"] * 2)
    assert isinstance(twice, Countermeasure)
    outer, inner = twice.layers
    assert outer.gradient_randomness().initial_seed() != inner.gradient_randomness().initial_seed()
    assert once.gradient_randomness().initial_seed() == inner.gradient_randomness().initial_seed()


def test_chance_depends_on_seed_words_and_pictures_alone() -> None:
    model = defended("noise")

    def draw(number: int, *more: int) -> int:
        return model.randomness(PROMPTS[number], *more).initial_seed()

    draws = [draw(number) for number in range(len(PROMPTS))]
    assert draws == [draw(number) for number in range(len(PROMPTS))]
    assert len(set(draws)) == len(draws)
    assert len({draw(0), draw(0, 0), draw(0, 1), draw(0, 1, 2)}) == 4
    assert defended("noise:seed=1").randomness(PROMPTS[0]).initial_seed() != draws[0]


def test_pictures_go_back_to_where_they_were() -> None:
    prompt = album(1, 2, 3)
    assert prompt.with_pictures(prompt.pictures) == prompt
    changed = prompt.with_pictures([picture(seed) for seed in (4, 5, 6)])
    assert [len(message.images) for message in changed.messages] == [1, 0, 2]
    assert [image.tobytes() for image in changed.pictures] == [picture(seed).tobytes() for seed in (4, 5, 6)]
    assert [message.text for message in changed.messages] == [message.text for message in prompt.messages]


class TwoPaths(Countermeasure):
    """The model must give the reply about the picture as it is and about its mirror image."""

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return self.model.generate(prompts, max_new_tokens=max_new_tokens)

    def describe(self) -> dict[str, Any]:
        return {"countermeasure": "two paths"}

    def gradient_paths(self, pixels: torch.Tensor) -> list[tuple[OpenModel, torch.Tensor]]:
        return [(self.model, pixels * 1), (self.model, pixels.flip(2))]


class OnePath(TwoPaths):
    """A defence that changes nothing an attack could see."""

    def gradient_paths(self, pixels: torch.Tensor) -> list[tuple[OpenModel, torch.Tensor]]:
        return Countermeasure.gradient_paths(self, pixels)


def test_by_default_an_attack_sees_the_model_inside() -> None:
    model = PlainTorchModel()
    defence = OnePath(model, "one")
    assert torch.equal(values(defence), values(model))
    for own, inner in zip(
        defence.loss_and_grad(PIXELS, QUESTIONS, REPLIES), model.loss_and_grad(PIXELS, QUESTIONS, REPLIES), strict=True
    ):
        assert torch.equal(own, inner)


def test_losses_and_gradients_are_means_over_the_paths_and_gather_in_a_shift() -> None:
    model = PlainTorchModel()
    defence = TwoPaths(model, "two")
    shift = torch.zeros(2, 4, 256, requires_grad=True)
    losses, gradient = defence.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=shift)
    plain, mirrored = (model.loss_and_grad(pixels, QUESTIONS, REPLIES) for pixels in (PIXELS, PIXELS.flip(2)))
    torch.testing.assert_close(losses, (plain[0] + mirrored[0]) / 2)
    torch.testing.assert_close(gradient, (plain[1] + mirrored[1].flip(2)) / 2)
    assert shift.grad is not None
    once = shift.grad.clone()
    defence.loss_and_grad(PIXELS, QUESTIONS, REPLIES, question_shift=shift)
    torch.testing.assert_close(shift.grad, 2 * once)
    assert defence.gradient_prompts(QUESTIONS) == QUESTIONS


class Seeing(PlainTorchModel):
    """Sees a number of pixels of every picture."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.differentiable_processor = self

    def seen_pixels(self, picture: Image.Image) -> int:
        return self.pixels


@pytest.mark.parametrize("specs", [["noise"], ["median", "crop"], ["vote", "jpeg"], ["recover:threshold=none"]])
def test_a_defended_model_sees_as_much_of_a_picture_as_the_model_inside(specs: list[str]) -> None:
    assert seen_pixels([defend(Seeing(96 * 96), specs)], picture()) == 96 * 96
    assert seen_pixels([defend(PlainTorchModel(), specs)], picture()) == 0


def test_a_second_opinion_sees_as_much_as_the_model_that_sees_most() -> None:
    for first, second in ((Seeing(64), Seeing(100)), (Seeing(100), Seeing(64)), (PlainTorchModel(), Seeing(100))):
        assert seen_pixels([CrossCheck(first, second, -4.0, "second")], picture()) == 100
        assert seen_pixels([defend(CrossCheck(first, second, -4.0, "second"), ["jpeg"])], picture()) == 100
    assert seen_pixels([CrossCheck(PlainTorchModel(), PlainTorchModel(), -4.0, "second")], picture()) == 0
