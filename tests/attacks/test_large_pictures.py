"""Photos of many megapixels: the size that is worked at, and a change that is carried up within the budget."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equipoise.attacks import large_pictures
from equipoise.attacks.budgets import Budget
from equipoise.attacks.large_pictures import LARGE, LEAST, budget_at, carry_up, seen_pixels, shrunk, working_size
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.solvers import Bim
from equipoise.media.quantize import to_pixels
from tests.attacks.fakes import QUESTIONS, photo, reply, within
from tests.models.tiny_plain import PlainTorchModel


@given(width=st.integers(1, 6000), height=st.integers(1, 6000), most_seen=st.sampled_from([0, 336 * 336, 10**7]))
def test_small_pictures_keep_their_size_and_large_ones_their_shape(width: int, height: int, most_seen: int) -> None:
    working = working_size((width, height), most_seen)
    if width * height <= LARGE:
        assert working == (width, height)
    assert working[0] <= width
    assert working[1] <= height
    if working != (width, height):
        assert working[0] * working[1] <= 1.2 * max(LEAST, 4 * most_seen) or 1 in working
        if min(working) > 20:
            assert abs(math.log(working[0] / working[1] * height / width)) < 0.06


def test_a_phones_photo_is_worked_at_a_quarter_of_a_megapixel() -> None:
    width, height = working_size((4032, 3024), 96 * 96)
    assert (width, height) == (591, 443)
    assert working_size((4032, 3024), 4032 * 3024) == (4032, 3024)


@pytest.mark.parametrize("budget", [Budget("linf", 8 / 255), Budget("l2", 1.5)])
def test_a_carried_change_keeps_the_budget_and_what_a_model_sees_of_it(budget: Budget) -> None:
    picture, size = photo(width=160, height=192), (40, 48)
    copy = shrunk(picture, size)
    small = Bim(budget_at(budget, picture.size, size), steps=6)(reply(), to_pixels(copy))
    carried = carry_up(small, picture, budget, None)
    assert carried.image.size == picture.size
    assert within(budget, carried.pixels, to_pixels(picture))
    assert carried.recipe["worked_at"] == list(size)
    change = to_pixels(shrunk(carried.image, size)) - to_pixels(copy)
    wanted = small.pixels - to_pixels(copy)
    # Saturated pixels cannot be moved further, so that a part of the change is lost there.
    assert float(torch.nn.functional.cosine_similarity(change.flatten(), wanted.flatten(), dim=0)) > 0.7


def test_a_rate_that_is_lost_on_the_way_up_is_said() -> None:
    picture = photo(width=160, height=192)
    small = Bim(Budget("linf", 8 / 255), steps=2)(reply(), to_pixels(shrunk(picture, (40, 48))))

    class Check:
        prompts = ("a?",) * 4

        def __init__(self, below: float, above: float) -> None:
            self.rates = {40: below, 160: above}

        def in_full(self, pixels: Tensor) -> float:
            return self.rates[pixels.shape[2]]

    carried = carry_up(small, picture, Budget("linf", 8 / 255), Check(0.75, 0.25))  # type: ignore[arg-type]
    assert carried.rate == 0.25
    assert any("from 40 x 48 pixels, at which 75% of 4 shadow" in warning for warning in carried.warnings)
    # The rate of the copy's own check, of other questions or of fewer draws, does not count.
    carried = carry_up(replace(small, rate=1.0), picture, Budget("linf", 8 / 255), Check(0.25, 0.25))  # type: ignore[arg-type]
    assert not any("carried up" in warning for warning in carried.warnings)


def test_an_attack_on_a_large_picture_works_at_the_lower_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_pictures, "LARGE", 1000)
    monkeypatch.setattr(large_pictures, "LEAST", 400)
    monkeypatch.setattr("equipoise.attacks.refusal_attack.LARGE", 1000)
    sizes = []

    class Watched(PlainTorchModel):
        def loss_and_grad(self, pixels, *arguments, **more):  # type: ignore[no-untyped-def]
            sizes.append(tuple(pixels.shape[1:]))
            return super().loss_and_grad(pixels, *arguments, **more)

    picture = photo()
    result = RefusalAttack(steps=2)(picture, [Watched()], QUESTIONS)
    assert set(sizes) == {(22, 18)}
    assert result.image.size == picture.size
    assert result.rate is not None


def test_a_model_that_does_not_say_what_it_sees_counts_as_nothing() -> None:
    assert seen_pixels([PlainTorchModel()], photo()) == 0
