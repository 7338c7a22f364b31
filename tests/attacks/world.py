"""What the attack tests share: a toy target, a picture, an objective."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.attacks.objectives import Objective, Reply
from equipoise.data.pictures import to_pixels
from equipoise.types import Prompt
from models.tiny_plain import PlainTorchModel

REFUSAL = "I can't help."
QUESTIONS = ("What is this?", "Who is there?", "Is it red?", "How many?", "Where was it?")


def photo(seed: int = 0, width: int = 40, height: int = 48) -> Image.Image:
    """A picture with smooth parts, hard edges and saturated places."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    ramp[: height // 3] = 0
    ramp[height // 3 : height // 2, : width // 2] = 255
    return Image.fromarray((ramp + random.normal(0, 6, ramp.shape)).clip(0, 255).astype(np.uint8))


def reply(*seeds: int, questions: tuple[str, ...] = QUESTIONS) -> Reply:
    """Make toy models refuse."""
    return Reply(tuple(PlainTorchModel(seed) for seed in seeds or (0,)), tuple(map(Prompt.ask, questions)), REFUSAL)


def score(objective: Objective, pixels: Tensor) -> float:
    return objective.score(pixels)


def grad_of(objective: Objective, pixels: Tensor) -> Tensor:
    return objective(pixels, range(objective.size), Generator().manual_seed(0)).gradient


CLEAN = to_pixels(photo())
assert CLEAN.dtype == torch.float32
