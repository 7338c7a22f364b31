"""A tiny LLaVA on disk and in memory, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from tests.models.families.llava import llava


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    llava(folder)
    return folder


@pytest.fixture(scope="session")
def shared_model(llava_folder: Path) -> HuggingFaceModel:
    model = load(str(llava_folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model


@pytest.fixture
def model(shared_model: HuggingFaceModel) -> HuggingFaceModel:
    """The one model, with its knobs at their defaults."""
    shared_model.micro_batch, shared_model.gradient_checkpointing = None, False
    return shared_model


@pytest.fixture
def picture() -> Image.Image:
    noise = torch.randint(0, 256, (3, 45, 61), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return Image.fromarray(noise.permute(1, 2, 0).numpy())


@pytest.fixture
def pixels(picture: Image.Image) -> Tensor:
    return pil_to_tensor(picture) / 255
