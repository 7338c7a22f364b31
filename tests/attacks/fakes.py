"""What the attack tests share: a toy target, a picture, an objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.attacks.objectives import Objective, TargetReplyLoss
from equipoise.data.pictures import to_pixels
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Exchange, Prompt
from tests.models.tiny_plain import PlainTorchModel

REFUSAL = "I can't help."
QUESTIONS = ("What is this?", "Who is there?", "Is it red?", "How many?", "Where was it?")


def photo(seed: int = 0, width: int = 40, height: int = 48) -> Image.Image:
    """A picture with smooth parts, hard edges and saturated places."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    ramp[: height // 3] = 0
    ramp[height // 3 : height // 2, : width // 2] = 255
    return Image.fromarray((ramp + random.normal(0, 6, ramp.shape)).clip(0, 255).astype(np.uint8))


def reply(*seeds: int, questions: tuple[str, ...] = QUESTIONS) -> TargetReplyLoss:
    """Make toy models refuse."""
    return TargetReplyLoss(
        tuple(PlainTorchModel(seed) for seed in seeds or (0,)), tuple(map(Prompt.ask, questions)), REFUSAL
    )


def score(objective: Objective, pixels: Tensor) -> float:
    return objective.score(pixels)


def grad_of(objective: Objective, pixels: Tensor) -> Tensor:
    return objective(pixels, range(objective.size), Generator().manual_seed(0)).gradient


class Jittery(PlainTorchModel):
    """A randomised defence: adds noise drawn by `realise`, and forbids a look at the deployed draw."""

    def __init__(self, draw: int | None = None, draws: list[int] | None = None) -> None:
        super().__init__()
        self.draw = draw
        self.draws: list[int] = [] if draws is None else draws
        """Of every look, in order, shared by all that are realised from one."""

    @property
    def is_random(self) -> bool:
        return self.draw is None

    def sample_randomness(self, random: Generator) -> Jittery:
        if self.draw is not None:
            return self
        return Jittery(int(torch.randint(2**40, (), generator=random)), self.draws)

    def _look(self) -> None:
        assert self.draw is not None, "the deployed draw was looked at"
        self.draws.append(self.draw)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self._look()
        return super().generate(prompts, max_new_tokens=max_new_tokens)

    def log_prob(self, pixels: Tensor, *args: Any, **more: Any) -> ReplyLogProbs:
        self._look()
        noise = torch.randn(pixels.shape, generator=Generator().manual_seed(self.draw or 0))
        return super().log_prob(pixels + 0.02 * noise, *args, **more)


CLEAN = to_pixels(photo())
assert CLEAN.dtype == torch.float32
