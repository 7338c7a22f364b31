"""Models on disk and from the testbed, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from tests.models.families.llava import llava


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Toys are too small for several threads, which only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    return folder


@pytest.fixture
def tiny_llava(llava_folder: Path) -> HuggingFaceModel:
    model = load(str(llava_folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model


@pytest.fixture(scope="session")
def testbed_llava() -> OpenModel:
    return load("testbed/llava", device="cpu")
