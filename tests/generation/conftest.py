"""A planted victim, a gate without networks, and a tiny model that reads pictures."""

from __future__ import annotations

import pytest

from equipoise.generation.request_judges import HarmlessnessGate
from equipoise.generation.victims import OpenVictim
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from tests.generation.fakes import WordJudge
from tests.models.families.llava import llava
from tests.steering.planted import planted_model, sorry_judge


@pytest.fixture
def gate() -> HarmlessnessGate:
    return HarmlessnessGate([WordJudge("one", "bomb"), WordJudge("two", "murder")])


@pytest.fixture(scope="session")
def chatty() -> TextModel:
    """The planted model of the steering tests with the marks that end sentences."""
    return planted_model(more_words=(".", "?"))


@pytest.fixture
def victim(chatty: TextModel) -> OpenVictim:
    return OpenVictim(chatty, "Sorry", sorry_judge)


@pytest.fixture(scope="session")
def looking(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    """A tiny random model that reads pictures."""
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    model = load(str(folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model
