"""The planted model and what was found in it, once."""

from __future__ import annotations

import pytest

from equipoise.models.text_model import TextModel
from equipoise.steering.find import DirectionSearch, FindResult, FindSettings, find_direction
from equipoise.steering.steerable import Steerable
from tests.steering.planted import planted_model, prompts, sorry_judge
from tests.steering.towers import text_steerable


@pytest.fixture(scope="session")
def planted() -> TextModel:
    return planted_model()


@pytest.fixture(scope="session")
def planted_steerable(planted: TextModel) -> Steerable:
    return Steerable.of(planted)


@pytest.fixture(scope="session")
def planted_result(planted_steerable: Steerable) -> FindResult:
    search = DirectionSearch(planted_steerable, FindSettings(reply_tokens=4), judge=sorry_judge)
    return find_direction(
        search, prompts("harmful", 60, "attack"), prompts("harmless", 60), prompts("pseudo", 40, "shoot")
    )


@pytest.fixture(scope="session")
def tiny_llama() -> Steerable:
    return text_steerable("llama")
